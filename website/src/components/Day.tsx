import React from 'react';

import facts from '@site/generated/facts.json';

import styles from './Day.module.css';

const WIDTH = 720;
const HEIGHT = 300;
const TOP_W = 8000;
const LOW_W = -4600;

type Row = (number | null)[];
const day = facts.day as Row[];
const x = (at: number) => (at / (day.length - 1)) * WIDTH;
const y = (watts: number) => ((TOP_W - watts) / (TOP_W - LOW_W)) * HEIGHT;

/** A line breaks where a value is unknown: that is no zero. */
function line(column: number): string {
  let isDrawing = false;
  return day
    .map((row, at) => {
      const value = row[column];
      if (value === null) {
        isDrawing = false;
        return '';
      }
      const step = `${isDrawing ? 'L' : 'M'}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      isDrawing = true;
      return step;
    })
    .join('');
}

const area = (column: number) => `${line(column)}L${WIDTH} ${y(0)}L0 ${y(0)}Z`;

/** A summer's day of the simulated house, as the library reads it from the inverter's registers. */
export default function Day(): React.JSX.Element {
  return (
    <figure className={styles.day}>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT + 24}`} role="img" aria-label="Power of sun, house, battery and grid over a day">
        {[6, 12, 18].map((hour) => (
          <g key={hour}>
            <line className={styles.tick} x1={(hour / 24) * WIDTH} x2={(hour / 24) * WIDTH} y1="0" y2={HEIGHT} />
            <text x={(hour / 24) * WIDTH} y={HEIGHT + 18} textAnchor="middle">
              {hour}:00
            </text>
          </g>
        ))}
        <line className={styles.zero} x1="0" x2={WIDTH} y1={y(0)} y2={y(0)} />
        <path className={styles.sunArea} d={area(0)} />
        <path className={styles.grid} d={line(3)} />
        <path className={styles.battery} d={line(2)} />
        <path className={styles.house} d={line(1)} />
        <path className={styles.sun} d={line(0)} />
      </svg>
      <figcaption>
        <span className={styles.sunKey}>sun</span>
        <span className={styles.houseKey}>house</span>
        <span className={styles.batteryKey}>battery, + is charging</span>
        <span className={styles.gridKey}>grid, + is export</span>
      </figcaption>
    </figure>
  );
}
