// Makes the compiled program start fast: its modules become two files, and V8's code cache lies beside each. Loading 250
// modules one by one and compiling them takes more than twice as long as all the rest of a short run.
//
//   node cli/bundle.mjs DIST      what tsc left in DIST is the input; DIST/cli/shimbed.cjs replaces its start
//
// program.cjs has what a common run needs; rest.cjs has what is loaded by `import()` only when a command asks for it. A
// module is in one of the two only, so that `instanceof` holds across them. The start is CommonJS, which Node loads in
// less time than a module.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { builtinModules, createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Script } from "node:vm";
import { build } from "esbuild";

/** Modules of Node that pull in its network code, and that a common run never calls; curves that compute their tables when loaded. */
const LAZY = /^(node:(child_process|tty|timers\/promises)|@noble\/curves\/.*)$/;
/** What else belongs to the first file, of the modules that are loaded on demand. */
const COMMON = ["cli/run.js", "cli/trace.js"];

/**
 * Loads the program. Its text stands in DIST/cli/shimbed.cjs, so it uses nothing but its arguments.
 * @returns the exported `main`, and the scripts by name
 */
function load(url, requireNode, readFile, Compiled) {
  const scripts = {};
  const evaluate = (name) => {
    const file = new URL(`${name}.cjs`, url);
    let cachedData;
    try {
      cachedData = readFile(new URL(`${name}.cache`, url));
    } catch {
      // Set-up could not make one: everything is compiled anew.
    }
    // The text is ASCII, and a string of single bytes is read and scanned faster.
    const text = readFile(file).toString("latin1");
    scripts[name] = new Compiled(text, { filename: file.pathname, ...(cachedData ? { cachedData } : {}) });
    const module = { exports: {} };
    scripts[name].runInThisContext()(requireModule, module, url);
    return module.exports;
  };
  let rest;
  const requireModule = (name) => {
    if (name.startsWith("program:")) return program.modules[name];
    if (!name.startsWith("rest:")) return requireNode(name);
    rest ??= evaluate("rest");
    return rest[name]();
  };
  const program = evaluate("program");
  return { main: program.main, scripts };
}

const START = `#!/usr/bin/env node
"use strict";
${load}
load(require("node:url").pathToFileURL(__filename).href, require, require("node:fs").readFileSync, require("node:vm").Script)
  .main(process.argv.slice(2))
  .then((status) => {
    process.exitCode = status;
  });
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

/** The start has a `require` already; Node's module for making one loads half of its module loader. */
const requiring = {
  name: "requiring",
  setup(esbuild) {
    esbuild.onResolve({ filter: /^node:module$/ }, ({ path }) => ({ path, namespace: "requiring" }));
    esbuild.onLoad({ filter: /.*/, namespace: "requiring" }, () => ({
      contents: "exports.createRequire = () => require;",
    }));
  },
};

/** One file of the program, whose first module is `contents`. */
function pack(dist, name, contents, plugin) {
  return build({
    stdin: { contents, resolveDir: dist, sourcefile: `${name}.js` },
    absWorkingDir: dist,
    outfile: join(dist, "cli", `${name}.cjs`),
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    // A script that is run from a string has no `import()`.
    supported: { "dynamic-import": false },
    charset: "ascii",
    // Packages with large WebAssembly, loaded by few commands.
    external: ["@alexaltea/*", ...builtinModules],
    define: { "import.meta.url": "moduleUrl" },
    banner: { js: "(function (require, module, moduleUrl) {" },
    footer: { js: "})" },
    minifyWhitespace: true,
    minifySyntax: true,
    plugins: [lazily, requiring, plugin],
    metafile: true,
    logLevel: "warning",
  });
}

async function bundle(dist) {
  const onDemand = new Set();
  const common = new Set(COMMON);
  /** Modules that are loaded on demand are left to the second file, unless the first has them anyway. */
  const leaving = {
    name: "leaving",
    setup(esbuild) {
      esbuild.onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
        if (kind !== "dynamic-import") return undefined;
        const name = relative(dist, resolve(resolveDir, path));
        if (common.has(name)) return undefined;
        onDemand.add(name);
        return { path: `rest:${name}`, external: true };
      });
    },
  };
  const first = (shared) => `
    export { main } from "./cli/main.js";
    ${shared.map((name, index) => `import * as m${index} from "./${name}";`).join("\n")}
    export const modules = { ${shared.map((name, index) => `"program:${name}": m${index}`).join(", ")} };`;
  const inputs = async (contents) => {
    const { metafile } = await pack(dist, "program", contents, leaving);
    return new Set(Object.keys(metafile.inputs));
  };
  let inFirst = await inputs(first([]));
  for (const name of onDemand) if (inFirst.has(name)) common.add(name);
  inFirst = await inputs(first([]));

  const stray = [...inFirst].find((name) => name.startsWith("shims/optee/"));
  if (stray !== undefined) throw new Error(`${stray} would be loaded with every command: import() what imports it`);

  const shared = new Set();
  const sharing = {
    name: "sharing",
    setup(esbuild) {
      esbuild.onResolve({ filter: /.*/ }, async ({ path, resolveDir, kind, importer, pluginData }) => {
        if (pluginData === "resolved") return undefined;
        const found = await esbuild.resolve(path, { resolveDir, kind, importer, pluginData: "resolved" });
        if (found.external || found.namespace !== "file") return undefined;
        const name = relative(dist, found.path);
        if (!inFirst.has(name)) return undefined;
        shared.add(name);
        return { path: `program:${name}`, external: true };
      });
    },
  };
  const left = [...onDemand].filter((name) => !common.has(name));
  const second = (names) => `
    module.exports = { ${names.map((name) => `"rest:${name}": () => require("./${name}")`).join(", ")} };`;
  await pack(dist, "rest", second(left), sharing);
  await pack(dist, "program", first([...shared]), leaving);
  rmSync(join(dist, "cli", "shimbed.js"), { force: true });
  writeFileSync(join(dist, "cli", "shimbed.cjs"), START);
  chmodSync(join(dist, "cli", "shimbed.cjs"), 0o755);
}

/** Runs what a common run runs, and keeps the code that V8 made of it. */
async function warm(dist) {
  const start = join(dist, "cli", "shimbed.cjs");
  const { scripts, main } = load(pathToFileURL(start).href, createRequire(start), readFileSync, Script);
  const guests = ["tls-x86_64", "tls-i386"].map((name) =>
    fileURLToPath(new URL(`../fixtures/bin/${name}`, import.meta.url)),
  );
  for (const guest of guests.filter((file) => existsSync(file))) {
    const status = await main(["run", guest]);
    if (status !== 0) throw new Error(`${guest} ended with ${status}`);
  }
  if (scripts.rest !== undefined)
    throw new Error("a common run loads a module that is not in the program's first file");
  writeFileSync(join(dirname(start), "program.cache"), scripts.program.createCachedData());
  const rest = new Script(readFileSync(join(dirname(start), "rest.cjs"), "latin1"));
  writeFileSync(join(dirname(start), "rest.cache"), rest.createCachedData());
}

const [directory, mode] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write("usage: node cli/bundle.mjs DIST\n");
  process.exitCode = 125;
} else if (mode === "--warm") await warm(resolve(directory));
else {
  await bundle(resolve(directory));
  // In a process of its own, whose output is the guests'. Without a cache the program works all the same.
  const { stderr, status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), directory, "--warm"], {
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  if (status !== 0)
    process.stderr.write(`the program starts more slowly, because its code could not be cached: ${stderr}\n`);
}
