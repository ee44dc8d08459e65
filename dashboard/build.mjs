// Builds the page into the folder named on the command line: one script, one style sheet, one picture, all named by
// their content so that browsers may keep them for ever, and the HTML that names them. `node build.mjs FOLDER`
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const [folder] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node build.mjs FOLDER");
  process.exit(2);
}

const { metafile } = await build({
  entryPoints: { app: "src/main.tsx", style: "src/style/main.css", icon: "src/icon.svg" },
  outdir: folder,
  entryNames: "[name]-[hash]",
  bundle: true,
  format: "esm",
  target: ["es2022", "chrome108", "firefox115", "safari16"],
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "copy" },
  legalComments: "none", // the licences are in licences.txt
  minify: true,
  metafile: true,
});

const named = Object.keys(metafile.outputs).map((path) => basename(path));
const find = (name, type) => named.find((file) => file.startsWith(`${name}-`) && file.endsWith(type));
// Lets the page be put on the home screen of a phone, where it opens like an app.
const manifest = JSON.stringify({
  name: "Sungrow dashboard",
  short_name: "Sungrow",
  start_url: "/",
  scope: "/",
  display: "standalone",
  background_color: "#f3f5f8",
  theme_color: "#f3f5f8",
  icons: [{ src: `/static/${find("icon", ".svg")}`, sizes: "any", type: "image/svg+xml" }],
});
const manifestName = `manifest-${createHash("sha256").update(manifest).digest("hex").slice(0, 8)}.json`;
await writeFile(join(folder, manifestName), manifest);

const html = (await readFile("src/index.html", "utf8"))
  .replaceAll("{manifest}", manifestName)
  .replaceAll("{app}", find("app", ".js"))
  .replaceAll("{style}", find("style", ".css"))
  .replaceAll("{icon}", find("icon", ".svg"));
await writeFile(join(folder, "index.html"), html);
await writeFile(join(folder, "licences.txt"), await licences(["preact", "uplot"]));

// A browser that can take it gets the compressed file; the server picks it by its name.
for (const name of await readdir(folder)) {
  const content = await readFile(join(folder, name));
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
  await writeFile(join(folder, `${name}.br`), await promisify(brotliCompress)(content, quality));
  await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(content, { level: 9 }));
}

async function licences(packages) {
  const texts = packages.map(async (name) => {
    const { version } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    return `${name} ${version}\n\n${await readFile(`node_modules/${name}/LICENSE`, "utf8")}`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}
