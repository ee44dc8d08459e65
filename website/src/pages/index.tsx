import Link from '@docusaurus/Link';
import useBaseUrl from '@docusaurus/useBaseUrl';
import CodeBlock from '@theme/CodeBlock';
import Layout from '@theme/Layout';
import facts from '@site/generated/facts.json';
import live from '@site/../docs/images/live.png';
import React from 'react';

import Day from '../components/Day';
import styles from './index.module.css';

/** What the tests do to it; each names the file that does. */
const ATTACKS = [
  ['The edge is killed in the middle of a write', 'Every reading it accepted is in the spool.', 'tests/spool/test_crash.py'],
  ['The power is cut, again and again', 'What was accepted is there, at whatever moment it happens.', 'tests/crash/test_power_cut.py'],
  ['The server stores a batch, and its answer is lost', 'The batch is sent again and stored once.', 'tests/upload/test_uploader.py'],
  ['The database is restored from yesterday', 'The server says what it lacks; the edge still has it.', 'tests/server/test_backup.py'],
  ['A captive portal says “200 OK”', 'That is no answer to this batch. Nothing is let go.', 'tests/upload/test_verdicts.py'],
  ['The SD card damages the spool', 'What is readable is taken over, the rest is counted, never hidden.', 'tests/spool/test_recovery.py'],
] as const;

const CODE = `async with SungrowInverter(settings, device_id="roof") as inverter:
    sample = await inverter.read()

sample.pv_power_w       # 3210   W, what the modules give
sample.battery_power_w  # -450   W, + is charging, always
sample.export_power_w   # 2680   W, + is exporting
sample.battery_temp_c   # None   not read: never zero`;

const WAYS = [
  ['I own an inverter', 'A live page, years of history, your data on your own machine.', 'quick-start', 'Quick start'],
  ['I install them', 'Probe any model, see what it answers and refuses, send captures.', 'commands', 'Commands'],
  ['I study the data', 'Notebooks to begin with; series as tables, CSV or Parquet, with coverage in every bucket.', 'library/#in-a-notebook', 'Notebooks'],
  ['I write software', 'A typed library whose parts work alone, and one HTTP API.', 'library', 'Library'],
] as const;

export default function Home(): React.JSX.Element {
  const docs = useBaseUrl('/docs/');
  return (
    <Layout description="Open software for owners of Sungrow inverters: read politely, keep every reading, see your energy.">
      <header className={styles.hero}>
        <div>
          <h1>
            Every reading of your inverter, <em>exactly once</em>.
          </h1>
          <p>
            <code>sungrow_lib</code> reads Sungrow inverters and batteries as gently as their dongle needs it, keeps every reading
            through crashes and outages, and shows it on your own server. A Python library first; an edge box and a
            server built from it.
          </p>
          <p className={styles.actions}>
            <Link className={styles.primary} to={`${docs}quick-start`}>
              Quick start
            </Link>
            <Link className={styles.secondary} to={`${docs}introduction`}>
              What it is
            </Link>
          </p>
          <p className={styles.try}>
            <code>make demo</code> two simulated inverters, edge, server and database on this computer, in a minute
          </p>
        </div>
        <Day />
      </header>
      <main>
        <section className={styles.attacks}>
          <h2>We try to lose your data. All the time.</h2>
          <p>
            A promise of durability is worth what was done to break it. Each of these is a test that runs with every
            change, against real processes, real TLS and a real database.
          </p>
          <ol>
            {ATTACKS.map(([attack, outcome, tests]) => (
              <li key={attack}>
                <strong>{attack}</strong>
                <span>{outcome}</span>
                <code>{tests}</code>
              </li>
            ))}
          </ol>
        </section>
        <section className={styles.code}>
          <div>
            <h2>Names, units and signs you can rely on</h2>
            <p>
              {facts.registers.toLocaleString('en')} registers of {facts.models} models are decoded from Sungrow’s
              documents and from what real devices answer, into {facts.fields} fields that mean the same on every model,
              firmware and path. The day above is read from the registers of a simulated hybrid with this code.
            </p>
            <p>
              <Link to={`${docs}reference/fields`}>Every field</Link> · <Link to={`${docs}reference/registers`}>every register</Link> ·{' '}
              <Link to={`${docs}reference/models`}>every model</Link>
            </p>
          </div>
          <CodeBlock language="python">{CODE}</CodeBlock>
        </section>
        <section className={styles.live}>
          <div>
            <h2>Now, and years of it</h2>
            <p>
              The server brings its own live page: who feeds whom at this moment, today, this year. It runs on your
              machine, speaks to no other, and works on a phone.
            </p>
          </div>
          <img src={live} alt="The live page: sun, battery, house and grid of two inverters" width="960" height="757" loading="lazy" />
        </section>
        <section className={styles.ways}>
          {WAYS.map(([who, what, page, label]) => (
            <Link key={who} to={docs + page}>
              <h3>{who}</h3>
              <p>{what}</p>
              <span>{label} →</span>
            </Link>
          ))}
        </section>
      </main>
    </Layout>
  );
}
