import { UserError } from "../emulator/errors.ts";
import { errnoNumber } from "./errno.ts";
import type { Request } from "./requests.ts";

/** Which matches a rule strikes, counted from 1, as strace's `when=`. */
interface When {
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

/** What a rule waits for. `SETTLS` are the requests that a clone makes for its new thread. */
type InjectTarget =
  | { readonly on: "request"; readonly kind: Request["kind"] | "SETTLS" | "token" }
  | { readonly on: "event"; readonly event: InjectEvent }
  | { readonly on: "cpu" }
  | { readonly on: "call"; readonly name: string };

/**
 * Steps of a guest thread's life, in rules with an `@` before them; each strikes when the thread enters the guest next. `repair`: the
 * platform finds that a fault is of its own making, which it is to put right.
 */
export const injectEvents = [
  "syscall",
  "exception",
  "interrupt",
  "switch",
  "vtl",
  "reschedule",
  "thread",
  "signal",
  "sigreturn",
  "exec",
  "entry",
  "repair",
] as const;
export type InjectEvent = (typeof injectEvents)[number];

/** What each fault does, for `--help` and for messages. Those with `=` take a value. */
const requestFaults = {
  "deny=": "no token is given; the guest sees EPERM, or the errno named",
  "error=": "the platform fails with this errno, and nothing is changed",
  unsupported: "the platform says Unsupported",
  unimplemented: "the platform says Unimplemented",
  nothing: "the platform says ok and changes nothing",
  "offset=": "the base is off by so many bytes",
  swap: "FS and GS are mistaken for each other",
  twice: "the token is executed twice",
  late: "the token is executed when the guest has run on",
  drop: "the token is never executed",
  "wrong-thread": "another thread executes the token",
  parent: "a new thread's TLS is given to its parent",
  "no-writeback": "the entry number does not go back to the guest",
  "entry=": "the entry number that goes back is off by so many",
  "not-present": "the descriptor is not present",
  "base=": "the descriptor has this base",
  "limit=": "the descriptor has this limit",
} as const;
const eventFaults = {
  "lose-base": "FS base (GS in 32-bit code) is 0 when the guest goes on",
  "skip-restore": "the platform does not put the guest's FS and GS back",
  swap: "FS and GS base have changed places",
  canary: "the stack protector's canary is overwritten",
  "stale-base": "the base is off by a page, as another thread's may be",
  sysret: "rcx and r11 are lost on the way back, as they are where that is sysretq",
} as const;
/** These hold for the whole run. */
const cpuFaults = { "no-fsgsbase": "CR4.FSGSBASE is off: wrfsbase raises #UD, in host code and in the guest" } as const;
const callFaults = { "error=": "the call fails with this errno", "retval=": "the call answers this" } as const;

type NameOf<T> = T extends `${infer Name}=` ? Name : T;
type RequestFault = NameOf<keyof typeof requestFaults>;
type EventFault = NameOf<keyof typeof eventFaults>;
type CallFault = NameOf<keyof typeof callFaults>;
type CpuFault = NameOf<keyof typeof cpuFaults>;
type Fault = RequestFault | EventFault | CallFault | CpuFault;

/** One fault to inject. */
export interface InjectRule {
  /** As it was written. */
  readonly text: string;
  readonly target: InjectTarget;
  readonly fault: Fault;
  readonly value: number;
  readonly when: When;
}

const REQUESTS: readonly (Request["kind"] | "SETTLS" | "token")[] = [
  "SetFsBase",
  "GetFsBase",
  "SetGsBase",
  "GetGsBase",
  "SetThreadArea",
  "GetThreadArea",
  "SetLdtEntry",
  "LoadSelectors",
  "ClearTls",
  "SETTLS",
  "token",
];

/** Lines about the syntax: targets, and what each fault does. */
export function injectHelp(): string[] {
  const lines = (title: string, faults: Readonly<Record<string, string>>): string[] => [
    title,
    ...Object.entries(faults).map(([name, text]) => `  ${name.endsWith("=") ? `${name}N` : name}: ${text}`),
  ];
  return [
    "TARGET:FAULT[=VALUE][:when=N|N+|N+STEP|N..M|N..M+STEP]",
    ...lines(`requests (${REQUESTS.join(", ")}):`, requestFaults),
    ...lines(`events (${injectEvents.map((event) => `@${event}`).join(", ")}):`, eventFaults),
    ...lines("cpu:", cpuFaults),
    ...lines("system calls, by name:", callFaults),
  ];
}

/** What the system calls of a shim fail with. */
export interface CallErrors {
  /** The number for a name or for a number as text. */
  number(text: string): number | undefined;
  /** What is wanted, with an example, for a message. */
  readonly wanted: string;
}

const ERRNOS: CallErrors = { number: errnoNumber, wanted: "an errno, as EINVAL or 22" };

/**
 * Reads a rule: `arch_prctl:error=EPERM:when=2`, `SetFsBase:offset=16`, `@exception:lose-base:when=3+`.
 * @param errors of the calls that may be named, Linux's when left out
 * @throws UserError that says which part is wrong and what is possible there
 */
export function parseInjectRule(text: string, errors: CallErrors = ERRNOS): InjectRule {
  const [name = "", action = "", ...rest] = text.split(":");
  const wrong = (message: string): UserError => new UserError(`injection "${text}": ${message}`, 125);
  if (name === "" || action === "") throw wrong("write TARGET:FAULT, as in SetFsBase:offset=16");
  const target = targetOf(name, wrong);
  const [faultName = "", value] = split(action);
  const faults: Readonly<Record<string, string>> = {
    request: requestFaults,
    event: eventFaults,
    cpu: cpuFaults,
    call: callFaults,
  }[target.on];
  const takesValue = `${faultName}=` in faults;
  if (!takesValue && !(faultName in faults)) {
    const known = Object.keys(faults).map((fault) => fault.replace("=", "=N"));
    throw wrong(`there is no fault "${faultName}" for ${name}: choose one of ${known.join(", ")}`);
  }
  if (name === "@repair" && faultName !== "skip-restore") throw wrong("the one fault for @repair is skip-restore");
  if (!takesValue && value !== undefined) throw wrong(`${faultName} takes no value`);
  const number = takesValue ? numberOf(faultName, value, wrong, target.on === "call" ? errors : ERRNOS) : 0;
  let when: When = { first: 1, last: Number.POSITIVE_INFINITY, step: 1 };
  for (const part of rest) {
    const [key, given = ""] = split(part);
    if (key !== "when") throw wrong(`unknown part "${part}"; only when=… may follow`);
    when = parseWhen(given, wrong);
  }
  return { text, target, fault: faultName as Fault, value: number, when };
}

function split(text: string): [string, string | undefined] {
  const at = text.indexOf("=");
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function targetOf(name: string, wrong: (message: string) => UserError): InjectTarget {
  if (name.startsWith("@")) {
    const event = injectEvents.find((known) => `@${known}` === name);
    if (event !== undefined) return { on: "event", event };
    throw wrong(`there is no event ${name}: choose one of ${injectEvents.map((known) => `@${known}`).join(", ")}`);
  }
  const kind = REQUESTS.find((known) => known === name);
  if (kind !== undefined) return { on: "request", kind };
  if (name === "cpu") return { on: "cpu" };
  if (/^[a-z_][a-z0-9_]*$/.test(name)) return { on: "call", name };
  throw wrong(`"${name}" is no request (${REQUESTS.join(", ")}), event (@…), system call, or cpu`);
}

function numberOf(
  fault: string,
  value: string | undefined,
  wrong: (message: string) => UserError,
  errors: CallErrors,
): number {
  if (fault === "deny" || fault === "error") {
    if (value === undefined && fault === "deny") return 0;
    const error = errors.number(value ?? "");
    if (error === undefined) throw wrong(`${fault} needs ${errors.wanted}, not "${value ?? ""}"`);
    return error;
  }
  if (!/^[+-]?([0-9]{1,15}|0x[0-9a-fA-F]{1,12})$/.test(value ?? ""))
    throw wrong(`${fault} needs a number, not "${value ?? ""}"`);
  const text = value ?? "";
  return text.startsWith("-") ? -Number(text.slice(1)) : Number(text.replace("+", ""));
}

function parseWhen(text: string, wrong: (message: string) => UserError): When {
  const match = /^([0-9]{1,9})(?:\.\.([0-9]{1,9}))?(?:(\+)([0-9]{1,9})?)?$/.exec(text);
  const [, first = "", last, plus, step = "1"] = match ?? [];
  const open = plus === undefined ? Number(first) : Number.POSITIVE_INFINITY;
  const when = { first: Number(first), last: last === undefined ? open : Number(last), step: Number(step) };
  if (match === null || when.first < 1 || when.step < 1 || when.last < when.first)
    throw wrong(`when=${text} is none of N, N+, N+STEP, N..M, N..M+STEP`);
  return when;
}

/** Whether a rule strikes at its `count`th match. */
export function strikesAt({ when }: InjectRule, count: number): boolean {
  return count >= when.first && count <= when.last && (count - when.first) % when.step === 0;
}
