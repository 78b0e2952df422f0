import { needyFaults } from "./inject-lifecycle.ts";
import { type InjectEvent, type InjectRule, injectEvents, parseInjectRule } from "./inject-rule.ts";

/** One fault for `shimbed mutate` to try. */
export interface Mutant {
  readonly rule: InjectRule;
  /** What it stands for, in a few words. */
  readonly title: string;
  /** Why nobody can notice it on this platform; such a mutant counts neither as noticed nor as a survivor. */
  readonly equivalent?: string;
}

export interface MutationTarget {
  readonly provider: string;
  readonly abi: "x86_64" | "i386";
}

const SET_FAULTS: readonly (readonly [string, string])[] = [
  ["nothing", "answers ok and writes nothing"],
  ["error=EINVAL", "fails"],
  ["unsupported", "is said to be unsupported"],
  ["unimplemented", "is said to be unimplemented"],
  ["deny", "is denied"],
  ["twice", "has its token executed twice"],
  ["late", "has its token executed late"],
  ["drop", "has its token dropped"],
  ["wrong-thread", "is executed by another thread"],
];
const BASE_FAULTS: readonly (readonly [string, string])[] = [
  ["offset=16", "writes a base that is off by 16"],
  ["swap", "changes the other segment"],
];
const AREA_FAULTS: readonly (readonly [string, string])[] = [
  ["offset=16", "writes a base that is off by 16"],
  ["base=0", "writes base 0"],
  ["limit=0", "writes limit 0"],
  ["no-writeback", "does not write the entry number back"],
  ["entry=1", "writes the wrong entry number back"],
  ["not-present", "leaves the descriptor not present"],
];
const READ_FAULTS: readonly (readonly [string, string])[] = [
  ["nothing", "reads 0"],
  ["error=EINVAL", "fails"],
];
const CLEAR_FAULTS: readonly (readonly [string, string])[] = [
  ["nothing", "clears nothing"],
  ["unimplemented", "is said to be unimplemented"],
  ["twice", "has its token executed twice"],
];

const REQUEST_FAULTS: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  SetFsBase: [...SET_FAULTS, ...BASE_FAULTS],
  SetGsBase: [...SET_FAULTS, ...BASE_FAULTS],
  GetFsBase: READ_FAULTS,
  GetGsBase: READ_FAULTS,
  SetThreadArea: [...SET_FAULTS, ...AREA_FAULTS],
  SetLdtEntry: SET_FAULTS,
  ClearTls: CLEAR_FAULTS,
};

const EVENT_FAULTS: readonly (readonly [string, string])[] = [
  ["lose-base", "the base is lost"],
  ["stale-base", "a stale base comes back"],
  ["canary", "the canary is overwritten"],
  ["swap", "FS and GS have changed places"],
  ["skip-restore", "the guest's bases are not put back"],
  ["sysret", "rcx and r11 are lost"],
];

const EVENT_NAMES: Readonly<Record<InjectEvent, string>> = {
  syscall: "a system call",
  exception: "an exception",
  interrupt: "an interrupt",
  switch: "a switch of threads",
  vtl: "a VTL switch",
  reschedule: "a reschedule",
  thread: "a thread's start",
  signal: "a signal's delivery",
  sigreturn: "a handler's end",
  exec: "exec",
  entry: "an entry from outside",
  repair: "a fault of the platform's own making",
};

/**
 * The faults that can strike a run, from what an injector without rules counted in it: each at the first and at the last
 * moment.
 */
export function mutants(counts: ReadonlyMap<string, number>, target: MutationTarget): Mutant[] {
  const list: Mutant[] = [];
  const add = (name: string, fault: string, title: string, times: number, equivalent?: string): void => {
    for (const when of times > 1 ? [1, times] : [1]) {
      const rule = parseInjectRule(`${name}:${fault}:when=${when}`);
      const moment = times > 1 ? ` (${when === 1 ? "first" : "last"} of ${times})` : "";
      list.push({ rule, title: `${title}${moment}`, ...(equivalent === undefined ? {} : { equivalent }) });
    }
  };
  for (const [kind, faults] of Object.entries(REQUEST_FAULTS)) {
    const times = counts.get(kind) ?? 0;
    // The first program's start clears what is clear.
    if (times === 0 || (kind === "ClearTls" && times < 2)) continue;
    for (const [fault, title] of faults) {
      if (kind === "ClearTls")
        list.push({ rule: parseInjectRule(`${kind}:${fault}:when=${times}`), title: `exec ${title}` });
      else add(kind, fault, `${kind} ${title}`, times);
    }
  }
  const clones = counts.get("SETTLS") ?? 0;
  if (clones > 0) {
    add("SETTLS", "nothing", "a new thread keeps its parent's TLS", clones);
    add("SETTLS", "base=0", "a new thread starts with base 0", clones);
    if (target.abi === "x86_64") add("SETTLS", "parent", "a new thread's TLS goes to its parent", clones);
  }
  for (const event of injectEvents) {
    for (const [fault, what] of EVENT_FAULTS) {
      const times = counts.get(needyFaults.some((needy) => needy === fault) ? `@${event} ${fault}` : `@${event}`) ?? 0;
      if (
        times === 0 ||
        (event === "repair" && fault !== "skip-restore") ||
        (fault === "sysret" && !leavesBySysret(event, target))
      )
        continue;
      const reason = equivalence(event, fault, target);
      add(`@${event}`, fault, `${what} after ${EVENT_NAMES[event]}`, times, reason);
    }
  }
  return list;
}

/** These two have a way out that needs rcx and r11; a handler's frame is what may hold others. */
function leavesBySysret(event: string, { provider }: MutationTarget): boolean {
  return event === "sigreturn" && (provider === "linux-kernel" || provider === "windows-userland");
}

function equivalence(event: string, fault: string, { provider }: MutationTarget): string | undefined {
  const swaps = provider !== "direct";
  if (fault === "skip-restore" && !swaps) return "the provider has nothing to put back";
  if (fault === "skip-restore" && event === "reschedule") return "a reschedule puts nothing back";
  if (fault === "skip-restore" && provider === "windows-userland" && event !== "repair")
    return "nothing else uses FS on Windows, so the guest's base is still there";
  if (fault === "lose-base" && provider === "windows-userland")
    return "Windows does this by itself, and the platform repairs it";
  return undefined;
}

/** How often each mutant was noticed, and which were not. */
export interface MutationScore {
  readonly noticed: number;
  readonly tried: number;
  /** In percent, 100 where nothing was tried. */
  readonly percent: number;
  readonly survivors: readonly Mutant[];
}

/** @param noticed whether a test failed, the guest died or answered otherwise, or a finding came up */
export function mutationScore(
  results: readonly { readonly mutant: Mutant; readonly noticed: boolean }[],
): MutationScore {
  const tried = results.filter(({ mutant }) => mutant.equivalent === undefined);
  const survivors = tried.filter(({ noticed }) => !noticed).map(({ mutant }) => mutant);
  const noticed = tried.length - survivors.length;
  const percent = tried.length === 0 ? 100 : (100 * noticed) / tried.length;
  return { noticed, tried: tried.length, percent, survivors };
}
