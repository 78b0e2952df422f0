/** The values of options: what users write, checked, as what the program needs. */
import { InvalidArgumentError } from "commander";
import type { Processor } from "../emulator/machine.ts";
import type { HostEventMode } from "../providers/host-events.ts";
import type { Bind } from "../shims/linux/vfs/root.ts";
import type { AroundOptions } from "./around.ts";

/** `-E` and `-U`, in the order they were given. */
export type EnvironmentChange =
  | { readonly kind: "set"; readonly name: string; readonly value: string }
  | { readonly kind: "copy"; readonly name: string }
  | { readonly kind: "unset"; readonly name: string };

/** Options that every command takes which runs a guest. */
export interface GuestOptions extends AroundOptions {
  readonly provider: string;
  readonly root?: string;
  readonly bind?: readonly Bind[];
  readonly environment: readonly EnvironmentChange[];
  readonly hostEnv?: boolean;
  readonly argv0?: string;
  readonly cwd?: string;
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly seed: number;
  readonly clock: "virtual" | "host";
  readonly net: "none" | "host";
  readonly timeout?: number;
  readonly maxBlocks?: number;
  readonly maxMemory?: number;
  readonly cpu?: Processor;
  readonly strictSegments?: boolean;
  readonly hostEvents?: HostEventMode;
  readonly json?: boolean;
  readonly output?: string;
}

/** What a `run` without options has, under a limit of real seconds. */
export function plainOptions(timeout: number): GuestOptions {
  return { provider: "direct", environment: [], seed: 0, clock: "virtual", net: "none", timeout };
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
/** setTimeout's and the alarm's longest, about 24 days. */
const LONGEST_SECONDS = 2_147_483;
const PAGE = 4096;

/** `512M`, `1.5G`, `65536`: bytes. */
export function parseSize(text: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit.toUpperCase()] ?? Number.NaN);
  if (!Number.isFinite(bytes)) throw new InvalidArgumentError("A size is a number with K, M or G, for example 512M.");
  if (bytes < PAGE) throw new InvalidArgumentError("It is less than one page, 4K.");
  return Math.floor(bytes);
}

/** Seconds, with a fraction if need be. */
export function parseSeconds(text: string): number {
  const seconds = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds > 0)) throw new InvalidArgumentError("It takes seconds above 0, for example 10 or 0.5.");
  if (seconds > LONGEST_SECONDS) throw new InvalidArgumentError(`At most ${LONGEST_SECONDS} seconds are possible.`);
  return seconds;
}

/** A whole number above 0. */
export function parseCount(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(count > 0) || !Number.isSafeInteger(count))
    throw new InvalidArgumentError("It takes a whole number above 0, for example 1000000.");
  return count;
}

/** A seed, decimal or 0x… */
export function parseSeed(text: string): number {
  const seed = /^(\d+|0x[\da-f]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(seed)) throw new InvalidArgumentError("A seed is a whole number from 0 to 2^53 - 1.");
  return seed;
}

/** `HOST:GUEST` or `HOST:GUEST:rw`. */
export function parseBind(text: string): Bind {
  const match = /^(.+?):(\/[^:]*)(?::(rw|ro))?$/.exec(text);
  if (!match) throw new InvalidArgumentError("It takes HOST:GUEST or HOST:GUEST:rw, where GUEST is an absolute path.");
  const [, host = "", guest = "", mode] = match;
  return { host, guest, writable: mode === "rw" };
}

/** `NAME=VALUE`, or `NAME` for the host's value. */
export function parseVariable(text: string): EnvironmentChange {
  const equals = text.indexOf("=");
  if (equals === 0 || text === "") throw new InvalidArgumentError("It takes NAME=VALUE, or NAME for the host's value.");
  if (equals < 0) return { kind: "copy", name: text };
  return { kind: "set", name: text.slice(0, equals), value: text.slice(equals + 1) };
}

/** The name of a variable to leave out. */
export function parseUnset(text: string): EnvironmentChange {
  if (text === "" || text.includes("=")) throw new InvalidArgumentError("It takes the name of a variable.");
  return { kind: "unset", name: text };
}

/** `UID` or `UID:GID`. */
export function parseUser(text: string): { uid: number; gid: number } {
  const [, user = "", group = user] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text) ?? [];
  const uid = user === "" ? Number.NaN : Number(user);
  const gid = Number(group);
  if (!(uid < 2 ** 32 - 1) || !(gid < 2 ** 32 - 1))
    throw new InvalidArgumentError("It takes UID or UID:GID as numbers, for example 1000:1000.");
  return { uid, gid };
}

/** A directory in the guest. */
export function parseGuestPath(text: string): string {
  if (!text.startsWith("/")) throw new InvalidArgumentError("It takes an absolute path in the guest.");
  return text;
}

/** The guest's environment, `NAME=value` each. It is empty but for what the options say, so that a run repeats elsewhere. */
export function guestEnvironment(
  options: Pick<GuestOptions, "environment" | "hostEnv">,
  host: Readonly<Record<string, string | undefined>>,
): string[] {
  const variables = new Map<string, string>();
  const copy = (name: string): void => {
    const value = host[name];
    if (value !== undefined) variables.set(name, value);
  };
  if (options.hostEnv) for (const name of Object.keys(host)) copy(name);
  for (const change of options.environment) {
    if (change.kind === "set") variables.set(change.name, change.value);
    else if (change.kind === "copy") copy(change.name);
    else variables.delete(change.name);
  }
  return [...variables].map(([name, value]) => `${name}=${value}`);
}
