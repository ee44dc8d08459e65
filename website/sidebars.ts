import {existsSync, readdirSync} from 'node:fs';
import path from 'node:path';

import type {SidebarsConfig} from '@docusaurus/plugin-content-docs';

const docs = path.resolve(__dirname, '../docs');
/** Of the pages, those that are there: some are generated, and the notebooks need a kernel to be. */
const present = (...pages: string[]) =>
  pages.filter((page) => ['.md', '.mdx'].some((ending) => existsSync(path.join(docs, page + ending))));

const notebooks = () => {
  const folder = path.join(docs, 'notebooks');
  const files = existsSync(folder) ? readdirSync(folder).sort() : [];
  const names = files.filter((file) => file.endsWith('.md')).map((file) => file.slice(0, -3));
  const first = ['first-look', 'year', 'battery', 'strings', 'quality'].filter((name) => names.includes(name));
  return [...new Set([...first, ...names])].map((name) => `notebooks/${name}`);
};

const category = (label: string, ...pages: string[]) => {
  const items = present(...pages);
  return items.length ? [{type: 'category' as const, label, collapsed: false, items}] : [];
};

/** The operations, written by `npm run gen`. */
function operations(): SidebarsConfig[string] {
  if (!existsSync(path.join(docs, 'api/sidebar.ts'))) return []; // `gen` itself reads this file
  const opened = (item: any): any => ({
    ...item,
    ...(item.items && {label: item.label[0].toUpperCase() + item.label.slice(1), items: item.items.map(opened), collapsed: false}),
  });
  return require('../docs/api/sidebar.ts').default.map(opened);
}

const sidebars: SidebarsConfig = {

  guides: [
    'introduction',
    'quick-start',
    ...category('Use it', 'dashboard', 'edge', 'server', 'commands', 'library', 'data-model'),
    ...category('Run it for years', 'deployment', 'operations', 'grafana', 'security', 'sizing'),
    ...category('Understand it', 'architecture', 'database', 'reliability', 'reference/performance', 'quirks', 'faq'),
    ...category('Notebooks', ...notebooks()),
    ...category(
      'Contribute',
      'contributing/index',
      'contributing/registers',
      'contributing/models',
      'contributing/endpoints',
      'contributing/captures',
    ),
  ],
  reference: [
    'reference/configuration',
    'reference/fields',
    {
      type: 'category',
      label: 'Registers',
      link: {type: 'doc', id: 'reference/registers/index'},
      collapsed: false,
      items: ['sh', 'sg', 'battery', 'ihm'].map((family) => `reference/registers/${family}`),
    },
    'reference/models',
    {
      type: 'category',
      label: 'Commands',
      collapsed: false,
      items: ['sungrow', 'sungrow-edge', 'sungrow-server'].map((name) => `reference/commands/${name}`),
    },
    'reference/metrics',
    'reference/disk-space',
    'reference/changelog',
  ],
  api: ['reference/http', ...operations()],
};

export default sidebars;
