import type * as Preset from '@docusaurus/preset-classic';
import type {Config} from '@docusaurus/types';
import type * as OpenApi from 'docusaurus-plugin-openapi-docs';
import {themes} from 'prism-react-renderer';

// Where the site will stand; for another place set SITE_URL and SITE_BASE when it is built.
const url = process.env.SITE_URL ?? 'https://sungrow-lib.example';
const baseUrl = process.env.SITE_BASE ?? '/';

const config: Config = {
  title: 'sungrow_lib',
  tagline: 'Every reading of your inverter, exactly once',
  favicon: 'img/icon.svg',
  url,
  baseUrl,
  trailingSlash: true, // any web server can show it, `python -m http.server` too,
  onBrokenLinks: 'throw',
  onBrokenAnchors: 'throw',
  onDuplicateRoutes: 'throw',
  future: {v4: true, faster: true},
  i18n: {defaultLocale: 'en', locales: ['en']},
  markdown: {
    format: 'detect', // .md is plain Markdown, as every other reader of it takes it; .mdx may hold components
    mermaid: true,
    hooks: {onBrokenMarkdownLinks: 'throw', onBrokenMarkdownImages: 'throw'},
  },
  themes: [
    '@docusaurus/theme-mermaid',
    'docusaurus-theme-openapi-docs',
    [
      '@easyops-cn/docusaurus-search-local',
      {hashed: true, indexBlog: false, docsDir: '../docs', docsRouteBasePath: '/docs', explicitSearchResultPath: true},
    ],
  ],
  plugins: [
    'docusaurus-plugin-sass',
    [
      'docusaurus-plugin-openapi-docs',
      {
        id: 'api',
        docsPluginId: 'classic',
        config: {
          server: {
            specPath: 'generated/openapi.json',
            outputDir: '../docs/api',
            hideSendButton: true, // it would want a proxy on somebody else's machine
            downloadUrl: '/openapi.json',
            sidebarOptions: {groupPathsBy: 'tag'},
          } satisfies OpenApi.Options,
        },
      },
    ],
  ],
  presets: [
    [
      'classic',
      {
        docs: {
          path: '../docs',
          routeBasePath: 'docs',
          sidebarPath: './sidebars.ts',
          docItemComponent: '@theme/ApiItem',
          exclude: ['**/README.md', 'performance.md'], // its figures are put in by tools/docs
        },
        blog: false,
        theme: {customCss: './src/css/custom.css'},
      } satisfies Preset.Options,
    ],
  ],
  themeConfig: {
    colorMode: {respectPrefersColorScheme: true},
    docs: {sidebar: {hideable: true, autoCollapseCategories: true}},
    navbar: {
      title: 'sungrow_lib',
      logo: {alt: '', src: 'img/icon.svg', width: 28, height: 28},
      items: [
        {type: 'docSidebar', sidebarId: 'guides', label: 'Guides', position: 'left'},
        {to: '/docs/quick-start/', label: 'Quick start', position: 'left', activeBaseRegex: '/docs/quick-start/'},
        {type: 'docSidebar', sidebarId: 'reference', label: 'Reference', position: 'left'},
        {type: 'docSidebar', sidebarId: 'api', label: 'HTTP API', position: 'left'},
        {href: 'pathname:///python/index.html', label: 'Python API', position: 'left', target: '_self'},
      ],
    },
    footer: {
      copyright: 'Apache-2.0. Not affiliated with Sungrow. This site asks no other host for anything.',
    },
    prism: {
      theme: themes.github,
      darkTheme: themes.oneDark,
      additionalLanguages: ['bash', 'toml', 'json', 'sql', 'ini', 'http'],
    },
    mermaid: {theme: {light: 'neutral', dark: 'dark'}},
    languageTabs: [
      {highlight: 'bash', language: 'curl', logoClass: 'curl'},
      {highlight: 'python', language: 'python', logoClass: 'python', variant: 'requests'},
      {highlight: 'javascript', language: 'javascript', logoClass: 'javascript', variant: 'fetch'},
    ],
  } satisfies Preset.ThemeConfig,
};

export default config;
