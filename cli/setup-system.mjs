// What set-up asks of the machine: running commands, and the Debian packages that building and testing take.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Debian packages that building the addon takes. */
const BUILD_PACKAGES = ["libunicorn-dev", "g++", "make", "python3"];

/**
 * Debian packages for the tests. `name:i386` also switches on Debian's i386 architecture.
 * Without an optional one some tests are skipped, with the reason said; without another, set-up fails.
 */
const TEST_PACKAGES = [
  { name: "gcc" },
  { name: "g++" },
  { name: "gcc-multilib" },
  { name: "g++-multilib" },
  { name: "musl-tools" },
  { name: "qemu-user" },
  { name: "busybox-static" },
  { name: "strace" },
  { name: "gdb", optional: true },
  { name: "ltrace", optional: true },
  { name: "python3-seccomp", optional: true },
  { name: "curl", optional: true },
  { name: "wget", optional: true },
  { name: "openssl", optional: true },
  { name: "xz-utils", optional: true },
  // The tests unpack programs of Debian's mirror; Ubuntu needs its keys for that.
  { name: "debian-archive-keyring", optional: true },
];

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const DAY_MS = 24 * 60 * 60 * 1000;

const HOW_TO_INSTALL = `Install a C++ compiler, make, Python 3 and Unicorn 2.0's development files, then run this again:
  Debian, Ubuntu   sudo apt-get install ${BUILD_PACKAGES.join(" ")}
  Fedora           sudo dnf install unicorn-devel gcc-c++ make python3
  Arch             sudo pacman -S --needed unicorn base-devel python
  macOS            xcode-select --install && brew install unicorn python`;

/** A step that could not be done. Its message is the whole paragraph that the user reads. */
export class StepFailed extends Error {}

export function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}

export function pathOf(...parts) {
  return join(ROOT, ...parts);
}

/** Whether `name` is an executable on PATH. */
function onPath(name) {
  return (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return directory !== "";
    } catch {
      return false;
    }
  });
}

/** Runs a command quietly; throws StepFailed with the tail of what it printed. `advice` says what to try. */
export function run(step, command, args, advice, env = {}) {
  const result = spawnSync(command, args, {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ""}`, ...env },
    maxBuffer: 256 * 1024 * 1024,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (result.status === 0) return result.stdout;
  const why = result.error
    ? result.error.message
    : result.signal
      ? `ended by ${result.signal}`
      : `exit ${result.status}`;
  const printed = `${result.stdout ?? ""}\n${result.stderr ?? ""}`.split("\n").filter((line) => line.trim() !== "");
  // npm says what is wrong first, compilers last.
  const shown = printed.length > 20 ? [...printed.slice(0, 6), "…", ...printed.slice(-12)] : printed;
  const tail = shown.map((line) => `    ${line}`);
  throw new StepFailed(
    [`cannot ${step}: \`${[command, ...args].join(" ")}\` failed (${why}).`, ...tail, advice].join("\n"),
  );
}

/** Whether a command succeeds, and what it printed to stdout; for questions whose answer may be no. */
function ask(command, args, input) {
  const result = spawnSync(command, args, { encoding: "utf8", input, stdio: ["pipe", "pipe", "ignore"] });
  return { ok: result.status === 0, text: result.stdout ?? "" };
}

export function readStamp(path) {
  return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
}

/** The words that put a command under root's rights: none for root, `sudo -n`, or undefined when there is no way. */
function asRoot() {
  if (process.getuid?.() === 0) return [];
  if (onPath("sudo") && ask("sudo", ["-n", "true"]).ok) return ["sudo", "-n"];
  return undefined;
}

/** Which of these Debian packages are not installed. */
function missingPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholders are dpkg-query's own.
  const { text } = ask("dpkg-query", ["-W", "-f", "${Package}:${Architecture} ${db:Status-Status}\\n", ...names]);
  const native = names.some((name) => name.includes(":")) ? ask("dpkg", ["--print-architecture"]).text.trim() : "";
  const installed = new Set();
  for (const line of text.split("\n")) {
    const [name, status] = line.split(" ");
    if (status !== "installed") continue;
    installed.add(name);
    // A package asked for without an architecture is the machine's own, or one for all.
    if (native === "" || name.endsWith(`:${native}`) || name.endsWith(":all")) installed.add(name.split(":")[0]);
  }
  return names.filter((name) => !installed.has(name));
}

/** What keeps the addon from being built here: names of things missing, empty when all is there. */
function missingBuildTools() {
  const compiler = ["c++", "g++", "clang++"].find(onPath);
  const missing = [];
  if (!compiler) missing.push("a C++ compiler");
  if (!onPath("make")) missing.push("make");
  if (!onPath("python3")) missing.push("python3");
  if (compiler) {
    const flags = ask("pkg-config", ["--cflags-only-I", "unicorn"]).text.split(/\s+/).filter(Boolean);
    const probe = ask(compiler, ["-E", "-x", "c++", ...flags, "-"], "#include <unicorn/unicorn.h>\n");
    if (!probe.ok) missing.push("unicorn/unicorn.h");
  } else {
    missing.push("unicorn/unicorn.h");
  }
  return missing;
}

function aptInstall(root, names) {
  const [command, ...args] = [
    ...root,
    ...["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"],
    ...["install", "-y", "--no-install-recommends", ...names],
  ];
  run("install Debian packages", command, args, `Try it by hand: sudo apt-get install ${names.join(" ")}`);
}

function aptUpdate(root) {
  const [command, ...args] = [...root, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "update"];
  run("fetch the lists of Debian packages", command, args, "Check the network and /etc/apt/sources.list.");
}

export function installBuildPackages() {
  const missing = missingBuildTools();
  if (missing.length === 0) return;
  const root = onPath("apt-get") ? asRoot() : undefined;
  if (!root) throw new StepFailed(`missing on this machine: ${missing.join(", ")}. ${HOW_TO_INSTALL}`);
  const names = missingPackages(BUILD_PACKAGES);
  say(`installing Debian packages: ${names.join(" ")}`);
  aptUpdate(root);
  aptInstall(root, names);
  const still = missingBuildTools();
  if (still.length > 0) throw new StepFailed(`still missing after apt-get: ${still.join(", ")}. ${HOW_TO_INSTALL}`);
}

/** Installs optional packages one at a time after all together failed; gives back those that could not be had. */
function installOptional(root, names) {
  try {
    aptInstall(root, names);
    return [];
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    if (names.length === 1) return names;
    return names.flatMap((name) => installOptional(root, [name]));
  }
}

function reportOptional(names) {
  say(`optional packages that could not be installed, tests that need them are skipped: ${names.join(" ")}`);
}

export function installTestPackages() {
  const required = TEST_PACKAGES.filter((entry) => !entry.optional).map((entry) => entry.name);
  const optional = TEST_PACKAGES.filter((entry) => entry.optional).map((entry) => entry.name);
  if (!onPath("dpkg-query") || !onPath("apt-get")) {
    say(`not a Debian system, so test tools are not checked; the tests use what Debian calls ${required.join(" ")}`);
    return;
  }
  const missing = missingPackages([...required, ...optional]);
  if (missing.length === 0) return;
  const missingRequired = missing.filter((name) => required.includes(name));
  const missingOptional = missing.filter((name) => optional.includes(name));

  // Asking apt again at every run would cost seconds; what could not be had is tried again after a day.
  const refused = pathOf("node_modules", ".shimbed-optional");
  const fresh = existsSync(refused) && Date.now() - statSync(refused).mtimeMs < DAY_MS;
  if (missingRequired.length === 0 && fresh && readStamp(refused) === missingOptional.join(" ")) {
    reportOptional(missingOptional);
    return;
  }

  const root = asRoot();
  if (!root) {
    if (missingRequired.length === 0) return reportOptional(missingOptional);
    throw new StepFailed(`the tests need more Debian packages: sudo apt-get install ${missingRequired.join(" ")}`);
  }
  say(`installing Debian packages for the tests: ${missing.join(" ")}`);
  if (missing.some((name) => name.endsWith(":i386"))) addI386(root);
  aptUpdate(root);
  if (missingRequired.length > 0) aptInstall(root, missingRequired);
  const failed = missingOptional.length > 0 ? installOptional(root, missingOptional) : [];
  if (failed.length > 0) reportOptional(failed);
  if (existsSync(dirname(refused))) writeFileSync(refused, `${failed.join(" ")}\n`);
}

function addI386(root) {
  const known = [
    ask("dpkg", ["--print-architecture"]).text,
    ...ask("dpkg", ["--print-foreign-architectures"]).text.split("\n"),
  ].map((name) => name.trim());
  if (known.includes("i386")) return;
  const [command, ...args] = [...root, "dpkg", "--add-architecture", "i386"];
  run("switch on Debian's i386 packages", command, args, "Run `sudo dpkg --add-architecture i386` by hand.");
}
