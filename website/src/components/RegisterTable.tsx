import React, {useDeferredValue, useMemo, useState} from 'react';

import styles from './RegisterTable.module.css';

export interface Register {
  name: string;
  number: string;
  space: string;
  type: string;
  scale: string;
  unit: string;
  access: string;
  range: string;
  status: string;
  notes: string;
  values: string[];
}

const everything = (register: Register) =>
  [register.name, register.name.replaceAll('_', ' '), register.number, register.unit, register.notes, register.type, register.status, ...register.values]
    .join(' ')
    .toLowerCase();

/** A number inside a register that spans several is found, too: 13011 finds 13010-13011. */
const holds = (register: Register, word: string) => {
  if (!/^\d+$/.test(word)) return false;
  const [first, last = first] = register.number.split('-').map(Number);
  return Number(word) >= first && Number(word) <= last;
};

export default function RegisterTable({registers}: {registers: Register[]}): React.JSX.Element {
  const [query, setQuery] = useState('');
  const [space, setSpace] = useState('');
  const wanted = useDeferredValue(query);
  const texts = useMemo(() => registers.map(everything), [registers]);
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = registers.filter(
    (register, at) =>
      (!space || register.space === space) && words.every((word) => texts[at].includes(word) || holds(register, word)),
  );
  return (
    <section className={styles.registers}>
      <div className={styles.controls}>
        <input
          type="search"
          value={query}
          onChange={(event) => setQuery(event.target.value)}
          placeholder="Name, number, unit, model or meaning, such as: battery power, 13022, WiNet"
          aria-label="Search the registers"
        />
        <select value={space} onChange={(event) => setSpace(event.target.value)} aria-label="Space">
          <option value="">input and holding</option>
          <option value="in">input (04)</option>
          <option value="hold">holding (03)</option>
        </select>
        <output aria-live="polite">
          {shown.length} of {registers.length}
        </output>
      </div>
      <div className={styles.scroll} tabIndex={0} role="region" aria-label="Registers">
        <table>
          <thead>
            <tr>
              <th>number</th>
              <th>space</th>
              <th>name</th>
              <th>type</th>
              <th>scale, unit</th>
              <th>access</th>
              <th>notes and values</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((register) => (
              <tr key={register.space + register.number + register.name}>
                <td className={styles.number}>{register.number}</td>
                <td>{register.space}</td>
                <td>
                  <code>{register.name}</code>
                  {register.status !== 'official' && <small className={styles.status}>{register.status}</small>}
                </td>
                <td>{register.type}</td>
                <td className={styles.number}>
                  {register.scale} {register.unit}
                </td>
                <td>
                  {register.access}
                  {register.range && <small>{register.range}</small>}
                </td>
                <td className={styles.notes}>
                  {register.notes}
                  {register.values.length > 0 && (
                    <details>
                      <summary>{register.values.length} values</summary>
                      <ul>
                        {register.values.map((value) => (
                          <li key={value}>{value}</li>
                        ))}
                      </ul>
                    </details>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
