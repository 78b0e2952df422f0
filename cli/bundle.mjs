// Makes the compiled program start fast: its modules become one file, and V8's code cache lies beside it. Loading 140 modules
// one by one and compiling them takes more than twice as long as all the rest of a short run.
//
//   node cli/bundle.mjs DIST      what tsc left in DIST is the input; DIST/cli/shimbed.js is replaced

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { builtinModules, createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Script } from "node:vm";
import { build } from "esbuild";

const PROGRAM = "program.cjs";
const CACHE = "program.cache";
/** Modules of Node that pull in its network code, and that a common run never calls; curves that compute their tables when loaded. */
const LAZY = /^(node:(child_process|tty)|@noble\/curves\/.*)$/;

/** Loads the bundle. Its text stands in DIST/cli/shimbed.js, so it uses nothing but its arguments and what that imports. */
function load(url, readFile, Compiled, requireFrom) {
  const read = (name) => readFile(new URL(name, url));
  let cachedData;
  try {
    cachedData = read("program.cache");
  } catch {
    // Set-up could not make one: everything is compiled anew.
  }
  // The bundle is ASCII, and a string of single bytes is read and scanned faster.
  const text = read("program.cjs").toString("latin1");
  const options = { filename: new URL("program.cjs", url).pathname, ...(cachedData ? { cachedData } : {}) };
  const script = new Compiled(text, options);
  const module = { exports: {} };
  script.runInThisContext()(requireFrom(url), module, url);
  return { script, main: module.exports.main };
}

const START = `#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Script } from "node:vm";
${load}
process.exitCode = await load(import.meta.url, readFileSync, Script, createRequire).main(process.argv.slice(2));
`;

/** Lets `import … from` such a module load it when a name of it is first used. */
const lazily = {
  name: "lazily",
  setup(esbuild) {
    const resolveDir = fileURLToPath(new URL("..", import.meta.url));
    esbuild.onResolve({ filter: LAZY }, ({ path, namespace }) => {
      if (namespace !== "lazy") return { path, namespace: "lazy" };
      return path.startsWith("node:") ? { path, external: true } : undefined;
    });
    esbuild.onLoad({ filter: LAZY, namespace: "lazy" }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path));
      const define = `Object.defineProperty(exports, name, { enumerable: true, get: () => require("${path}")[name] })`;
      return { contents: `for (const name of ${JSON.stringify(names)}) ${define};`, resolveDir };
    });
  },
};

async function bundle(dist) {
  const cli = join(dist, "cli");
  await build({
    entryPoints: [join(cli, "main.js")],
    outfile: join(cli, PROGRAM),
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    charset: "ascii",
    // Packages with large WebAssembly, loaded by few commands.
    external: ["@alexaltea/*", ...builtinModules],
    define: { "import.meta.url": "moduleUrl" },
    banner: { js: "(function (require, module, moduleUrl) {" },
    footer: { js: "})" },
    minifyWhitespace: true,
    minifySyntax: true,
    plugins: [lazily],
    logLevel: "warning",
  });
  writeFileSync(join(cli, "shimbed.js"), START);
  chmodSync(join(cli, "shimbed.js"), 0o755);
}

/** Runs what a common run runs, and keeps the code that V8 made of it. */
async function warm(dist) {
  const url = pathToFileURL(join(dist, "cli", "shimbed.js")).href;
  const { script, main } = load(url, readFileSync, Script, createRequire);
  const guests = ["tls-x86_64", "tls-i386"].map((name) =>
    fileURLToPath(new URL(`../fixtures/bin/${name}`, import.meta.url)),
  );
  for (const guest of guests.filter((file) => existsSync(file))) {
    const status = await main(["run", guest]);
    if (status !== 0) throw new Error(`${guest} ended with ${status}`);
  }
  writeFileSync(join(dist, "cli", CACHE), script.createCachedData());
}

const [directory, mode] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write("usage: node cli/bundle.mjs DIST\n");
  process.exitCode = 125;
} else if (mode === "--warm") await warm(resolve(directory));
else {
  await bundle(resolve(directory));
  // In a process of its own, whose output is the guests'. Without a cache the program works all the same.
  spawnSync(process.execPath, [fileURLToPath(import.meta.url), directory, "--warm"], { stdio: "ignore" });
}
