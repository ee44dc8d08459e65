// Whether all is well: alarms, temperatures, what is missing, what the edge says of itself.

import { useState } from "preact/hooks";
import type { Client } from "../api/client.ts";
import type { CounterBreak, DayCompleteness, Device, DeviceEvent, EdgeStatus, KeptAside } from "../api/types.ts";
import { ago, dayName, energy, frameName, moment, number, percent, quantity } from "../format.ts";
import type { Live } from "../live.ts";
import { contactOf } from "../model/edge.ts";
import { stateOf } from "../model/state.ts";
import { dayOf, frameStart, knownZone, spanOf, step } from "../model/time.ts";
import { texts } from "../texts.ts";
import { useAnswer, type System } from "./hooks.ts";
import { StateMark } from "./now.tsx";
import { Answer, Choice, Facts, Icon } from "./parts.tsx";

const t = texts.condition;
const AGAIN_MS = 60_000;
const DAY_MS = 86_400_000;

interface PartProps {
  live: Live;
  device: Device;
  zone: string;
}

export function Condition({ live, system }: { live: Live; system: System }) {
  return (
    <>
      {system.devices.map((device) => (
        <OneDevice key={device.device_id} live={live} device={device} isNamed={system.isPlant} />
      ))}
    </>
  );
}

function OneDevice({ live, device, isNamed }: { live: Live; device: Device; isNamed: boolean }) {
  const part: PartProps = { live, device, zone: knownZone(device.timezone) };
  const name = device.name || device.device_id;
  return (
    <div class="condition">
      {isNamed ? <h2 class="of">{name}</h2> : null}
      <Inverter {...part} />
      <Events {...part} />
      <Completeness {...part} />
      <Edge {...part} />
      <Conflicts key={device.device_id} {...part} />
    </div>
  );
}

function Inverter({ live, device, zone }: PartProps) {
  const reading = live.readings.get(device.device_id) ?? null;
  const age_s = reading ? live.clock.age_s(reading.ts) : 0;
  return (
    <section class="card">
      <header>
        <h2>{t.device}</h2>
        <StateMark state={stateOf(device, reading, age_s, live.isReached)} age_s={age_s} />
      </header>
      <Facts
        rows={[
          [t.state, reading?.running_state],
          [t.lastContact, reading && moment(reading.ts, zone)],
          [t.temperature, quantity(reading?.inverter_temp_c, "°C")],
          [t.batteryTemperature, quantity(reading?.battery_temp_c, "°C")],
          [t.health, percent(reading?.battery_soh_pct)],
          [t.insulation, quantity(reading?.insulation_resistance_kohm, "kΩ", 0)],
          [t.frequency, quantity(reading?.grid_frequency_hz, "Hz", 2)],
          [t.lifetime, energy(reading?.pv_total_kwh)],
          [t.model, device.model],
          [t.serial, device.serial],
          [t.firmware, device.firmware],
          [t.zone, device.timezone ?? t.zoneUnset],
          [t.since, device.first_ts && moment(device.first_ts, zone)],
        ]}
      />
    </section>
  );
}

function Events({ live, device, zone }: PartProps) {
  const [days, setDays] = useState("7");
  const answer = useAnswer(
    `events ${device.device_id} ${days}`,
    () => live.client.events(device.device_id, new Date(live.clock.now() - Number(days) * DAY_MS), new Date(live.clock.now())),
    AGAIN_MS,
    live.revision,
  );
  return (
    <section class="card">
      <header>
        <h2>{t.events}</h2>
        <Choice label={t.eventsSpan} names={t.eventsSpans} chosen={days} choose={setDays} />
      </header>
      <Answer of={answer}>
        {({ events, counter_breaks }) => {
          const breaks = counter_breaks ?? [];
          const none = breaks.length === 0 ? <NoEvents device={device} /> : <p>{t.eventsNoneBut}</p>;
          return (
            <>
              {events.length === 0 ? none : <EventTable events={events} zone={zone} />}
              {breaks.length === 0 ? null : <Breaks breaks={breaks} zone={zone} />}
            </>
          );
        }}
      </Answer>
    </section>
  );
}

/** Of a device that never told anything nobody knows that all is well. */
function NoEvents({ device }: { device: Device }) {
  return device.last_ts ? <p class="good">{t.eventsNone}</p> : <p class="empty">{texts.stateText.empty()}</p>;
}

function EventTable({ events, zone }: { events: readonly DeviceEvent[]; zone: string }) {
  const newest = [...events].reverse();
  return (
    <Rows
      title={t.events}
      head={[t.what, t.begin, t.end]}
      rows={newest.map((event) => ({
        key: `${event.kind} ${event.code} ${event.begin}`,
        state: event.end === null ? "active" : "over",
        cells: [
          <>
            <strong class="kind" data-kind={event.kind}>
              {t.kinds[event.kind] ?? event.kind}
            </strong>{" "}
            {event.text} <span class="hint">{t.code(event.code)}</span>
          </>,
          event.began_before ? t.before(moment(event.begin, zone)) : moment(event.begin, zone),
          event.end === null ? <strong class="bad">{t.active}</strong> : moment(event.end, zone),
        ],
      }))}
    />
  );
}

function Breaks({ breaks, zone }: { breaks: readonly CounterBreak[]; zone: string }) {
  const newest = [...breaks].reverse();
  return (
    <>
      <h3>{t.breaks}</h3>
      <p class="hint">{t.breaksLead}</p>
      <Rows
        title={t.breaks}
        head={[t.what, t.seen]}
        rows={newest.map((found) => ({ key: `${found.counter} ${found.ts}`, cells: [found.text, moment(found.ts, zone)] }))}
      />
    </>
  );
}

interface RowsProps {
  title: string;
  head: readonly string[];
  rows: readonly { key: string; state?: string; cells: readonly preact.ComponentChildren[] }[];
}

function Rows({ title, head, rows }: RowsProps) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={title}>
      <table>
        <thead>
          <tr>
            {head.map((text) => (
              <th scope="col" key={text}>
                {text}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.key} data-state={row.state}>
              {row.cells.map((cell, index) => (
                <td key={head[index]}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Completeness({ live, device, zone }: PartProps) {
  const today = dayOf(live.clock.now(), zone);
  const [month, setMonth] = useState(frameStart("month", today));
  const answer = useAnswer(
    `completeness ${device.device_id} ${month} ${zone}`,
    () => live.client.completeness(device.device_id, ...spanOf("month", month, zone)),
    AGAIN_MS,
    live.revision,
  );
  const next = step("month", month, 1);
  return (
    <section class="card">
      <header>
        <h2>{t.completeness}</h2>
        <div class="steps small">
          <button type="button" aria-label={texts.history.earlier} onClick={() => setMonth(step("month", month, -1))}>
            <Icon name="left" />
          </button>
          <span aria-live="polite">{frameName("month", month)}</span>
          <button type="button" aria-label={texts.history.later} disabled={next > today} onClick={() => setMonth(next)}>
            <Icon name="right" />
          </button>
        </div>
      </header>
      <p class="hint">{t.completenessLead}</p>
      <Answer of={answer}>{(days) => <Days days={days} />}</Answer>
    </section>
  );
}

function Days({ days }: { days: readonly DayCompleteness[] }) {
  const expected = days.filter((day) => day.expected > 0 || day.stored > 0);
  if (expected.length === 0) return <p class="empty">{t.completenessNone}</p>;
  return (
    <>
      <ol class="days" aria-hidden="true">
        {days.map((day) => (
          <li key={day.day} data-level={levelOf(day)} title={`${dayName(day.day, "weekday")}: ${shareText(day)}`}>
            {dayName(day.day, "dayOfMonth")}
          </li>
        ))}
      </ol>
      <details class="table">
        <summary>{texts.history.table}</summary>
        <Rows
          title={t.completeness}
          head={[t.day, t.share, t.stored, t.expected, t.missing]}
          rows={expected.map((day) => ({
            key: day.day,
            cells: [
              dayName(day.day, "weekday") + (day.partial ? ` (${texts.history.running})` : ""),
              shareText(day),
              number(day.stored),
              number(day.expected),
              t.missingCauses(day.missing) || t.complete,
            ],
          }))}
        />
      </details>
    </>
  );
}

const shareOf = (day: DayCompleteness): number | null => (day.expected > 0 ? Math.min(1, (day.stored + day.missing.slower) / day.expected) : null);

function shareText(day: DayCompleteness): string {
  const share = shareOf(day);
  if (share === null) return texts.unknown;
  return share >= 0.9995 ? percent(100) : percent(Math.min(99.9, share * 100), 1);
}

function levelOf(day: DayCompleteness): string {
  const share = shareOf(day);
  if (share === null) return "none";
  if (share >= 0.995) return "whole";
  return share >= 0.9 ? "most" : share > 0.3 ? "some" : "few";
}

function Edge({ live, device, zone }: PartProps) {
  const answer = useAnswer(`edge ${device.device_id}`, () => live.client.edges(device.device_id), AGAIN_MS / 2, live.revision);
  return (
    <section class="card">
      <h2>{t.edge}</h2>
      <Answer of={answer}>
        {(edges) =>
          edges.length === 0 ? (
            <p class="empty">{t.edgeNone}</p>
          ) : (
            edges.map((edge) => <EdgeFacts key={edge.edge_id} edge={edge} live={live} zone={zone} />)
          )
        }
      </Answer>
    </section>
  );
}

function EdgeFacts({ edge, live, zone }: { edge: EdgeStatus; live: Live; zone: string }) {
  const contact = contactOf(edge);
  const connection = contact ? t.connections[contact] : edge.connection;
  const backlog = edge.backlog ?? null;
  const since = edge.oldest_waiting && backlog ? `, ${t.backlogSince(moment(edge.oldest_waiting, zone))}` : "";
  const offset = edge.clock_offset_s ?? null;
  const clock = edge.clock ? (t.clocks[edge.clock] ?? edge.clock) : null;
  return (
    <Facts
      rows={[
        [t.edgeId, edge.edge_id],
        [t.reported, ago(live.clock.age_s(edge.reported_at))],
        [t.connection, [connection, edge.connection_detail].filter(Boolean).join(": ")],
        [t.backlog, backlog === null ? null : number(backlog) + since],
        [t.quarantine, edge.quarantined === null || edge.quarantined === undefined ? null : number(edge.quarantined)],
        [t.clock, [clock, offset === null ? null : t.clockOffset(number(offset, 2))].filter(Boolean).join(", ")],
        [t.accepted, edge.polled && edge.accepted ? t.of(number(edge.accepted), number(edge.polled)) : null],
        [t.version, edge.edge_version],
      ]}
    />
  );
}

function Conflicts({ live, device, zone }: PartProps) {
  const [pages, setPages] = useState(1);
  const answer = useAnswer(`conflicts ${device.device_id} ${pages}`, () => askConflicts(live.client, device, pages), AGAIN_MS, live.revision);
  return (
    <section class="card">
      <h2>{t.conflicts}</h2>
      <p class="hint">{t.conflictsLead}</p>
      <Answer of={answer}>
        {({ found, isMore }) => (
          <>
            {found.length === 0 ? <p class="good">{t.conflictsNone}</p> : <ConflictTable found={found} zone={zone} />}
            {isMore ? (
              <button type="button" onClick={() => setPages(pages + 1)}>
                {t.more}
              </button>
            ) : null}
          </>
        )}
      </Answer>
    </section>
  );
}

async function askConflicts(client: Client, device: Device, pages: number) {
  const found: KeptAside[] = [];
  let before: number | undefined;
  for (let page = 0; page < pages; page += 1) {
    const answer = await client.conflicts(device.device_id, before);
    found.push(...answer.conflicts);
    if (answer.next_before === null) return { found, isMore: false };
    before = answer.next_before;
  }
  return { found, isMore: true };
}

function ConflictTable({ found, zone }: { found: readonly KeptAside[]; zone: string }) {
  return (
    <Rows
      title={t.conflicts}
      head={[t.reading, t.reason, t.received, t.edgeId]}
      rows={found.map((one) => ({
        key: String(one.entry),
        cells: [
          one.ts ? moment(one.ts, zone) : texts.unknown,
          `${t.reasons[one.reason] ?? one.reason}${one.detail ? `: ${one.detail}` : ""}`,
          moment(one.received_at, zone),
          one.edge_id ?? texts.unknown,
        ],
      }))}
    />
  );
}
