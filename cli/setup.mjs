// Makes a fresh checkout ready: system packages, npm packages, the addon, the compiled program.
// Plain JavaScript without dependencies, because it runs before there are any.
//
//   node cli/setup.mjs            what `shimbed` needs
//   node cli/setup.mjs --tests    and the tools that the tests compile, run and compare with
//
// Says nothing when there is nothing to do. All it prints goes to stderr: stdout belongs to the guest.

import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { installBuildPackages, installTestPackages, pathOf, readStamp, run, StepFailed, say } from "./setup-system.mjs";

const NODE_MAJOR = 20;
const LOCK_WAIT_MS = 15 * 60 * 1000;

/** Every file below `directories` whose name passes, as sorted paths relative to the root. */
function filesBelow(directories, passes) {
  return directories
    .filter((directory) => existsSync(pathOf(directory)))
    .flatMap((directory) =>
      readdirSync(pathOf(directory), { withFileTypes: true }).flatMap((entry) => {
        const path = join(directory, entry.name);
        if (entry.isDirectory()) return entry.name === "build" ? [] : filesBelow([path], passes);
        return passes(entry.name) ? [path] : [];
      }),
    )
    .sort();
}

/** One digest of the names and contents of files. */
function digest(paths, ...more) {
  const hash = createHash("sha256");
  for (const path of paths) {
    hash.update(`${path}\0`);
    hash.update(readFileSync(pathOf(path)));
  }
  for (const text of more) hash.update(`\0${text}`);
  return hash.digest("hex");
}

// ---------------------------------------------------------------- Node

function checkNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major >= NODE_MAJOR) return;
  throw new StepFailed(
    `Node ${process.versions.node} is too old, ${NODE_MAJOR} or newer is needed. Get one from https://nodejs.org or with a version manager, for example \`nvm install ${NODE_MAJOR}\`.`,
  );
}

// ---------------------------------------------------------------- npm packages

function installNpmPackages() {
  const stamp = pathOf("node_modules", ".shimbed-lock");
  const installed = pathOf("node_modules", ".package-lock.json");
  const wanted = digest(["package-lock.json"]);
  if (readStamp(stamp) === wanted) return;
  const byHand = existsSync(installed) && statSync(installed).mtimeMs >= statSync(pathOf("package-lock.json")).mtimeMs;
  if (!byHand) {
    say("installing npm packages");
    // The compiler and node-gyp are development packages: asked for even under NODE_ENV=production.
    const args = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
    const npm = process.env.npm_execpath;
    const [command, first] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
    run("install npm packages", command, [...first, ...args], "Check the network, then run `npm ci` by hand.");
  }
  writeFileSync(stamp, `${wanted}\n`);
}

// ---------------------------------------------------------------- addon

/** The directory whose include/node belongs to the running Node, or undefined: then node-gyp downloads headers. */
function ownHeaders() {
  const prefix = dirname(dirname(process.execPath));
  const header = join(prefix, "include", "node", "node_version.h");
  if (!existsSync(header) || !existsSync(join(prefix, "include", "node", "common.gypi"))) return undefined;
  const text = readFileSync(header, "utf8");
  const [major, minor, patch] = ["MAJOR", "MINOR", "PATCH"].map(
    (part) => new RegExp(`#define NODE_${part}_VERSION (\\d+)`).exec(text)?.[1],
  );
  return `${major}.${minor}.${patch}` === process.versions.node ? prefix : undefined;
}

function buildAddon(needTools) {
  const directory = "emulator/native";
  const sources = filesBelow([directory], (name) => /\.(cc|h|gyp|mjs)$/.test(name));
  const settings = sources.filter((path) => !/\.(cc|h)$/.test(path));
  // Whatever decides how everything is built: a change of it builds from nothing.
  const how = digest(
    settings,
    `${process.platform} ${process.arch} ${process.versions.modules}`,
    ...["SHIMBED_UNICORN", "CXX", "CXXFLAGS", "LDFLAGS"].map((name) => process.env[name] ?? ""),
  );
  const wanted = `${how} ${digest(sources)}`;
  const stamp = pathOf(directory, "build", ".shimbed-addon");
  const built = pathOf(directory, "build", "Release", "shimbed_native.node");
  const before = readStamp(stamp);
  if (before === wanted && existsSync(built)) return;
  if (!sources.some((path) => path.endsWith(".cc"))) return;

  needTools();
  say("building the addon");
  const headers = ownHeaders();
  const work = before.startsWith(how) ? ["configure", "build"] : ["rebuild"];
  const args = [
    pathOf("node_modules", "node-gyp", "bin", "node-gyp.js"),
    ...work,
    `--directory=${pathOf(directory)}`,
    "--loglevel=error",
    ...(headers ? [`--nodedir=${headers}`] : []),
  ];
  const advice =
    "The compiler and Unicorn's header are there. Look at the first error above; SHIMBED_UNICORN=shared builds against " +
    "the shared library only, and removing emulator/native/build starts from nothing.";
  run("build the addon", process.execPath, args, advice);
  writeFileSync(stamp, `${wanted}\n`);
}

// ---------------------------------------------------------------- compiled program

function compile() {
  const sources = filesBelow(["cli", "emulator", "providers", "shims"], (name) => name.endsWith(".ts"));
  // The code cache fits one version of Node only.
  const wanted = digest(["package-lock.json", "tsconfig.json", "cli/bundle.mjs", ...sources], process.version);
  const stamp = pathOf("dist", ".shimbed-sources");
  if (readStamp(stamp) === wanted) return;
  say("compiling");
  // Compiled aside and swapped in, so that a file whose source is gone goes too and an error leaves the old program.
  const next = pathOf("dist.next");
  rmSync(next, { recursive: true, force: true });
  const tsc = pathOf("node_modules", "typescript", "bin", "tsc");
  const args = [tsc, "-p", pathOf("tsconfig.json"), "--outDir", next];
  run("compile", process.execPath, args, "The lines above name the file and line to mend.");
  const advice = "The program works without it too: `npm run build` compiles alone.";
  run("bundle", process.execPath, [pathOf("cli", "bundle.mjs"), next], advice);
  writeFileSync(join(next, ".shimbed-sources"), `${wanted}\n`);
  rmSync(pathOf("dist"), { recursive: true, force: true });
  chmodSync(join(next, "cli", "shimbed.cjs"), 0o755);
  renameSync(next, pathOf("dist"));
}

/** Lets `npx shimbed` find the program: npm links the commands of dependencies only, not the package's own. */
function linkCommand() {
  const program = pathOf("dist", "cli", "shimbed.cjs");
  const link = pathOf("node_modules", ".bin", "shimbed");
  if (existsSync(link)) return;
  rmSync(link, { force: true });
  symlinkSync(relative(dirname(link), program), link);
}

// ---------------------------------------------------------------- one at a time

/** Runs `work` while no other set-up of this checkout does; a lock whose owner is gone is taken over. */
function alone(work) {
  const path = pathOf(".setup.lock");
  const deadline = Date.now() + LOCK_WAIT_MS;
  for (let waited = false; ; waited = true) {
    try {
      const file = openSync(path, "wx", 0o600);
      writeSync(file, `${process.pid}\n`);
      closeSync(file);
      break;
    } catch (error) {
      // A checkout that cannot be written may still have nothing left to do.
      if (error.code === "EACCES" || error.code === "EROFS") return work();
      if (error.code !== "EEXIST") throw error;
    }
    if (!ownerLives(path)) {
      rmSync(path, { force: true });
      continue;
    }
    if (Date.now() > deadline)
      throw new StepFailed(`another set-up has held ${path} for too long; end it or remove it.`);
    if (!waited) say("waiting for another set-up of this checkout");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
  try {
    work();
  } finally {
    rmSync(path, { force: true });
  }
}

function ownerLives(path) {
  try {
    const pid = Number(readFileSync(path, "utf8"));
    // An empty file is one whose owner is about to write its number into it.
    if (pid === 0) return Date.now() - statSync(path).mtimeMs < 1000;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/**
 * Does what is left to do. Ends the process with status 125 and one paragraph on stderr when a step fails.
 * `tests`: also install what the tests need.
 */
export function setUp({ tests = false } = {}) {
  try {
    checkNode();
    alone(() => {
      if (tests) installTestPackages();
      installNpmPackages();
      buildAddon(installBuildPackages);
      compile();
      linkCommand();
    });
  } catch (error) {
    const refused = ["EACCES", "EROFS", "ENOSPC", "EPERM"].includes(error.code);
    if (!(error instanceof StepFailed) && !refused) throw error;
    const advice = refused ? ". Make the checkout writable for you, with some hundred MB free, and try again." : "";
    process.stderr.write(`shimbed: set-up failed: ${error.message}${advice}\n`);
    process.exit(125);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = process.argv.slice(2);
  const unknown = options.find((option) => option !== "--tests");
  if (unknown !== undefined) {
    process.stderr.write(`shimbed: set-up knows no option ${unknown}; usage: node cli/setup.mjs [--tests]\n`);
    process.exit(125);
  }
  setUp({ tests: options.includes("--tests") });
}
