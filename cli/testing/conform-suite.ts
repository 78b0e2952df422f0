/** The conformance suite as data: its guests, their probes, what the native kernel made of them, and what is known to fail where. */
import { readFileSync } from "node:fs";
import { fixturesDirectory } from "../shipped.ts";
import { type Arch, arches } from "./conform-arch.ts";
import { taProbeNames } from "./conform-ta.ts";
import { testError } from "./execute.ts";

/** One probe on one word size. */
export interface Probe {
  readonly arch: Arch;
  /** `group.what`. */
  readonly name: string;
  /** Absolute path of the guest, which takes the probe's name as its argument. */
  readonly guest: string;
  /** It needs a CPU that enforces segment limits and types. */
  readonly strict: boolean;
  /** `ok`, or the line that the guest printed on the kernel of `Suite.kernel`; undefined for what no kernel runs. */
  readonly native: string | undefined;
}

/** Why probes fail on a provider: its platform is so. */
interface KnownFailure {
  readonly provider: string;
  /** Both if left out. */
  readonly arch?: Arch;
  readonly probes: readonly string[];
  readonly reason: string;
  /** Where the platform's own code shows it. */
  readonly source: string;
}

export interface Suite {
  /** Where the native results come from: `Linux 6.18.44 x86_64`. */
  readonly kernel: string;
  readonly probes: readonly Probe[];
  /** Why a probe is expected to fail on a provider, or undefined where it is expected to pass. */
  known(provider: string, probe: Probe): string | undefined;
}

/** @throws UserError when the files of the suite are not there or damaged */
export function readSuite(): Suite {
  const directory = fixturesDirectory();
  const recorded = object(readJson(`${directory}conform/native.json`), "native.json");
  const failures = readJson(`${directory}conform/known-failures.json`);
  if (!Array.isArray(failures) || !failures.every(isKnownFailure)) throw damaged("known-failures.json");
  const { kernel, strict } = recorded;
  if (typeof kernel !== "string" || !Array.isArray(strict)) throw damaged("native.json");
  const results = object(recorded.probes, "native.json");
  const probes: Probe[] = arches.flatMap((arch) =>
    Object.entries(object(results[arch], "native.json")).map(([name, native]) => ({
      arch,
      name,
      guest: `${directory}bin/conform-${arch}`,
      strict: strict.includes(name),
      native: String(native),
    })),
  );
  const known = new Map<string, string>();
  for (const failure of failures) {
    for (const arch of failure.arch === undefined ? arches : [failure.arch])
      for (const name of failure.probes)
        known.set(`${failure.provider} ${arch} ${name}`, `${failure.reason} (${failure.source})`);
  }
  const guest = `${directory}bin/conform-ta.elf`;
  for (const name of taProbeNames) probes.push({ arch: "x86_64", name, guest, strict: false, native: undefined });
  return { kernel, probes, known: (provider, { arch, name }) => known.get(`${provider} ${arch} ${name}`) };
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw testError(`cannot read the conformance suite: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function damaged(file: string): Error {
  return testError(`cannot read the conformance suite: fixtures/conform/${file} is damaged`);
}

function object(value: unknown, file: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw damaged(file);
  return Object.fromEntries(Object.entries(value));
}

function isKnownFailure(value: unknown): value is KnownFailure {
  if (typeof value !== "object" || value === null) return false;
  const { provider, arch, probes, reason, source }: Partial<Record<keyof KnownFailure, unknown>> = value;
  return (
    typeof provider === "string" &&
    (arch === undefined || arch === "x86_64" || arch === "i386") &&
    Array.isArray(probes) &&
    probes.every((name) => typeof name === "string") &&
    typeof reason === "string" &&
    typeof source === "string"
  );
}
