import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Client } from "../api/client.ts";
import { Live } from "../live.ts";
import { printRoute, type Page, type Route } from "../route.ts";
import { applyTheme, forgetToken, savedSystem, savedTheme, savedToken, saveSystem, saveToken, type Theme } from "../session.ts";
import { texts } from "../texts.ts";
import { Condition } from "./condition.tsx";
import { History } from "./history.tsx";
import { systemsOf, useLive, useRoute, type System } from "./hooks.ts";
import { Now } from "./now.tsx";
import { Emblem, Icon } from "./parts.tsx";
import { SignIn } from "./signin.tsx";

export function App() {
  const [token, setToken] = useState(savedToken);
  const [refused, setRefused] = useState<number | null>(null);
  const signOut = (status: number | null) => {
    forgetToken();
    setRefused(status);
    setToken(null);
  };
  const signIn = (given: string, keep: boolean) => {
    saveToken(given, keep);
    setRefused(null);
    setToken(given);
  };
  if (token === null) {
    return (
      <main id="content" class="outside">
        <SignIn refused={refused} onToken={signIn} />
      </main>
    );
  }
  return <Inside key={token} token={token} signOut={signOut} />;
}

function Inside({ token, signOut }: { token: string; signOut: (status: number | null) => void }) {
  const leave = useRef(signOut);
  leave.current = signOut;
  const live = useMemo(() => new Live(new Client(token), (status) => leave.current(status)), [token]);
  useEffect(() => () => live.end(), [live]);
  useLive(live);
  const [route, go] = useRoute();
  const systems = systemsOf(live.devices);
  const wanted = route.of || savedSystem();
  const system = systems.find((one) => one.key === wanted) ?? systems[0];
  const choose = (change: Partial<Route>) => {
    if (change.of) saveSystem(change.of);
    go(change);
  };
  useEffect(() => live.watch(system?.devices.map((device) => device.device_id) ?? []), [live, system?.key, system?.devices.length]);
  useEffect(() => {
    document.title = `${texts.pages[route.page]} · ${system?.name ?? texts.title}`;
  }, [route.page, system?.name]);
  return (
    <>
      <Head live={live} route={route} systems={systems} system={system} go={choose} signOut={() => signOut(null)} />
      <main id="content" tabIndex={-1}>
        <p class="banner" role="status" hidden={live.isReached}>
          {live.isReached ? "" : texts.offline}
        </p>
        <h1 class="unseen">{`${texts.pages[route.page]}: ${system?.name ?? texts.title}`}</h1>
        {system ? <Content live={live} system={system} route={route} go={go} /> : <NoDevices live={live} />}
      </main>
    </>
  );
}

interface ContentProps {
  live: Live;
  system: System;
  route: Route;
  go: (change: Partial<Route>) => void;
}

function Content({ live, system, route, go }: ContentProps) {
  if (route.page === "history") return <History live={live} system={system} route={route} go={go} />;
  if (route.page === "condition") return <Condition live={live} system={system} />;
  return <Now live={live} system={system} route={route} />;
}

function NoDevices({ live }: { live: Live }) {
  if (!live.isLoaded) return <p class="hint waiting">{live.isReached ? texts.loading : texts.notReached}</p>;
  return (
    <section class="card empty">
      <h2>{texts.noDevices.title}</h2>
      <p>{texts.noDevices.text}</p>
    </section>
  );
}

interface HeadProps {
  live: Live;
  route: Route;
  systems: System[];
  system: System | undefined;
  go: (change: Partial<Route>) => void;
  signOut: () => void;
}

function Head({ route, systems, system, go, signOut }: HeadProps) {
  return (
    <header class="head">
      <Emblem />
      <SystemChoice systems={systems} system={system} choose={(of) => go({ of })} />
      <nav aria-label={texts.menu.pages}>
        {(Object.keys(texts.pages) as Page[]).map((page) => (
          <a key={page} href={printRoute({ ...route, page })} aria-current={page === route.page ? "page" : undefined}>
            <Icon name={page} />
            {texts.pages[page]}
          </a>
        ))}
      </nav>
      <ThemeChoice />
      <button type="button" class="leave" onClick={signOut}>
        <Icon name="leave" />
        <span>{texts.menu.signOut}</span>
      </button>
    </header>
  );
}


function SystemChoice({ systems, system, choose }: { systems: System[]; system: System | undefined; choose: (key: string) => void }) {
  if (systems.length < 2) return <strong class="name">{system?.name ?? texts.title}</strong>;
  const group = (isPlant: boolean) =>
    systems.filter((one) => one.isPlant === isPlant).map((one) => (
      <option key={one.key} value={one.key} selected={one.key === system?.key}>
        {one.name}
      </option>
    ));
  const plants = group(true);
  return (
    <select class="name" aria-label={texts.menu.system} onChange={(event) => choose(event.currentTarget.value)}>
      {plants.length > 0 ? <optgroup label={texts.menu.plants}>{plants}</optgroup> : null}
      {plants.length > 0 ? <optgroup label={texts.menu.devices}>{group(false)}</optgroup> : group(false)}
    </select>
  );
}

function ThemeChoice() {
  const [theme, setTheme] = useState<Theme>(savedTheme);
  const choose = (next: Theme) => {
    applyTheme(next);
    setTheme(next);
  };
  return (
    <select class="theme" aria-label={texts.theme.label} onChange={(event) => choose(event.currentTarget.value as Theme)}>
      {(["auto", "light", "dark"] as const).map((value) => (
        <option key={value} value={value} selected={value === theme}>
          {texts.theme[value]}
        </option>
      ))}
    </select>
  );
}
