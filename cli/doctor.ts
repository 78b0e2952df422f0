/** `shimbed doctor`: tries every part, and says what to type where one does not work. */
import { createHash } from "node:crypto";
import { accessSync, closeSync, constants, openSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { runToEnd } from "./guest-run.ts";
import { plainOptions } from "./options.ts";
import { print, reason } from "./output.ts";
import { shippedFiles } from "./shipped.ts";

/** `optional` is not there and only some tests miss it; `slow` works, but not as well as it could. */
type Verdict = "ok" | "slow" | "optional" | "failed";

interface Check {
  readonly part: string;
  readonly verdict: Verdict;
  /** What was found. */
  readonly found: string;
  /** What to type to mend it. */
  readonly fix?: string;
}

const NODE_MAJOR = 20;
const SETUP = "npm run setup";
const REINSTALL = "npm ci";
const FRESH_ADDON = "rm -rf emulator/native/build && npm run setup";
const GUEST_SECONDS = 20;

/** Programs that the tests compile with and compare with. */
const TEST_TOOLS = [
  { name: "qemu-x86_64", debian: "qemu-user" },
  { name: "qemu-i386", debian: "qemu-user" },
  { name: "strace", debian: "strace" },
  { name: "gcc", debian: "gcc gcc-multilib" },
  { name: "musl-gcc", debian: "musl-tools" },
];

/** Checks everything. Status 0 when what shimbed needs works, 1 otherwise. */
export async function doctor(options: { readonly json?: boolean }): Promise<number> {
  const checks = [checkNode(), ...(await checkAddon())];
  checks.push(
    await checkAssembler(),
    await checkDisassembler(),
    ...(await checkShipped()),
    ...TEST_TOOLS.map(checkTool),
  );
  const failed = checks.some(({ verdict }) => verdict === "failed");
  print(options.json ? `${JSON.stringify({ ok: !failed, checks }, undefined, 2)}\n` : `${asText(checks)}\n`);
  return failed ? 1 : 0;
}

function asText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ part }) => part.length));
  const lines = checks.map(({ part, verdict, found, fix }) => {
    const line = `${verdict.padEnd(8)}  ${part.padEnd(width)}  ${found}`;
    return fix === undefined ? line : `${line}; type: ${fix}`;
  });
  const failed = checks.filter(({ verdict }) => verdict === "failed").length;
  lines.push(
    "",
    failed === 0 ? "Everything that shimbed needs works." : `${failed} of ${checks.length} checks failed.`,
  );
  return lines.join("\n");
}

function checkNode(): Check {
  const found = `${process.versions.node} on ${process.platform} ${process.arch}`;
  if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR) return { part: "Node", verdict: "ok", found };
  return {
    part: "Node",
    verdict: "failed",
    found: `${found}, ${NODE_MAJOR} is needed`,
    fix: `nvm install ${NODE_MAJOR}`,
  };
}

async function checkAddon(): Promise<Check[]> {
  const { loadNative } = await import("../emulator/native.ts");
  let addon: ReturnType<typeof loadNative>;
  try {
    addon = loadNative();
  } catch (error) {
    return [{ part: "addon", verdict: "failed", found: words(error), fix: SETUP }];
  }
  const unicorn = `libunicorn ${addon.unicornVersion}`;
  const linked: Check = { part: "addon", verdict: "ok", found: `loads, with ${unicorn}` };
  const how = addon.staticUnicorn ? "is linked statically" : "is the shared library, with its functions taken over";
  try {
    const { Machine } = await import("../emulator/machine.ts");
    new Machine({}, addon).close();
  } catch (error) {
    return [
      linked,
      {
        part: "fast stores",
        verdict: "failed",
        found: words(error),
        fix: `sudo apt-get install libunicorn-dev && ${FRESH_ADDON}`,
      },
    ];
  }
  return [linked, { part: "fast stores", verdict: "ok", found: `on: libunicorn ${how}` }];
}

async function checkAssembler(): Promise<Check> {
  return attempt("keystone", REINSTALL, async () => {
    const { createAssembler } = await import("../emulator/assembler.ts");
    const assembler = await createAssembler();
    const bytes = assembler.assemble("mov rax, fs:[0x28]", { bits: 64, address: 0 });
    const code = Buffer.from(bytes).toString("hex");
    if (code !== "64488b042528000000") throw new Error(`mov rax, fs:[0x28] became ${code}`);
    return "assembles";
  });
}

async function checkDisassembler(): Promise<Check> {
  return attempt("capstone", REINSTALL, async () => {
    const { createDisassembler } = await import("../emulator/disassembler.ts");
    const disassembler = await createDisassembler();
    const [first] = disassembler.disassemble(Uint8Array.of(0x0f, 0x05), { bits: 64, address: 0 });
    disassembler.close();
    if (first?.text !== "syscall") throw new Error(`0f 05 became ${first?.text}`);
    return "disassembles";
  });
}

/** The shipped guests: whole, and run to their end. */
async function checkShipped(): Promise<Check[]> {
  const restore = "git checkout fixtures";
  let files: ReturnType<typeof shippedFiles>;
  try {
    files = shippedFiles();
  } catch (error) {
    const found = `fixtures/manifest.json cannot be used: ${reason(error)}`;
    return [{ part: "fixtures", verdict: "failed", found, fix: restore }];
  }
  const checks: Check[] = [];
  for (const { file, name, sha256 } of files) {
    const whole = await attempt(`fixtures/${name}`, restore, async () => {
      const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
      if (digest !== sha256) throw new Error("its digest is not the manifest's");
      return "whole";
    });
    checks.push(whole);
    if (whole.verdict !== "ok" || !name.startsWith("bin/")) continue;
    checks.push(await attempt(`run of ${path.basename(name)}`, FRESH_ADDON, () => runShipped(file)));
  }
  return checks;
}

async function runShipped(file: string): Promise<string> {
  const nowhere = openSync("/dev/null", "r+");
  try {
    const stdio = [nowhere, nowhere, nowhere] as const;
    const report = await runToEnd({
      guest: file,
      args: [],
      options: plainOptions(GUEST_SECONDS),
      keptRecords: 1000,
      stdio,
    });
    const { status, faults, records } = report;
    if (status !== 0) throw new Error(`it ended with ${status} instead of 0${faults.map((line) => ` ${line.trim()}`)}`);
    return `ends with 0 after ${records.length} punchthrough requests`;
  } finally {
    closeSync(nowhere);
  }
}

function checkTool(tool: { readonly name: string; readonly debian: string }): Check {
  const part = tool.name;
  const found = (process.env.PATH ?? "")
    .split(path.delimiter)
    .filter((directory) => directory !== "")
    .map((directory) => path.join(directory, tool.name))
    .find(isExecutable);
  if (found !== undefined) return { part, verdict: "ok", found: `${found}, for the tests` };
  const fix = os.platform() === "linux" ? `sudo apt-get install ${tool.debian}` : "npm test, on Linux";
  return { part, verdict: "optional", found: "not there; only some tests need it", fix };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function attempt(part: string, fix: string, work: () => Promise<string>): Promise<Check> {
  try {
    return { part, verdict: "ok", found: await work() };
  } catch (error) {
    return { part, verdict: "failed", found: words(error), fix };
  }
}

/** An error's message in one line, with its cause's. */
function words(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return `${error.message}${cause}`.replace(/\s+/g, " ");
}
