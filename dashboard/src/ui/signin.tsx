import { useEffect, useRef, useState } from "preact/hooks";
import { texts } from "../texts.ts";
import { Emblem } from "./parts.tsx";

const t = texts.signIn;

export function SignIn({ refused, onToken }: { refused: number | null; onToken: (token: string, keep: boolean) => void }) {
  const field = useRef<HTMLInputElement>(null);
  const [keep, setKeep] = useState(true);
  useEffect(() => field.current?.focus(), [refused]);
  const submit = (event: Event) => {
    event.preventDefault();
    const token = field.current?.value.trim();
    if (token) onToken(token, keep);
  };
  return (
    <form class="card sign-in" onSubmit={submit}>
      <Emblem />
      <h1>{t.title}</h1>
      <p>{t.lead}</p>
      <input name="username" value={t.token} autocomplete="username" hidden readOnly />
      <label for="token">{t.token}</label>
      <input id="token" ref={field} type="password" autocomplete="current-password" required spellcheck={false} aria-describedby="token-hint" />
      <p class="hint" id="token-hint">
        {t.hint} <code>{t.command}</code>
      </p>
      <label class="check">
        <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} /> {t.keep}
      </label>
      <p class="bad" role="alert">
        {refused === null ? "" : (t.refused[refused] ?? t.refused[401])}
      </p>
      <button type="submit" class="primary">
        {t.button}
      </button>
    </form>
  );
}
