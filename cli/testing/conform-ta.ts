/** Probes of the entries into trusted applications. No kernel runs these: the shim for OP-TEE does. */
import { UserError } from "../../emulator/errors.ts";
import { HostPanic } from "../../providers/lifecycle.ts";
import { TaOpenError } from "../../shims/optee/api.ts";
import type { CaseResult } from "./run-case.ts";
import { TaBed, type TaTestSession } from "./ta-bed.ts";

/** Commands of fixtures/conform/ta.c. */
const Command = {
  threadPointer: 0,
  sameBase: 1,
  sameCanary: 2,
  canaryIsRandom: 3,
  initialized: 4,
  zeroed: 5,
  counts: 6,
  afterCall: 7,
  overrun: 8,
} as const;
const TARGET_DEAD = 0xffff_3024n;
const MANY = 100;

interface Found {
  readonly got: bigint;
  readonly want: bigint;
}

/** What a command found and what it wanted; the TEE's result against success where it failed. */
async function ask(session: TaTestSession, command: number): Promise<Found> {
  const { result, outputs } = await session.invoke(command, [{ type: "value_output" }]);
  const [output] = outputs;
  if (result !== 0 || output?.kind !== "value") return { got: BigInt(result), want: 0n };
  return { got: output.a, want: output.b };
}

/** Fails in the TA's own code, so that what is left is for the next session. */
async function die(session: TaTestSession): Promise<Found> {
  const { got } = await ask(session, Command.overrun);
  return { got, want: TARGET_DEAD };
}

const probes: Readonly<Record<string, (session: TaTestSession) => Promise<Found>>> = {
  "ta.thread_pointer": (session) => ask(session, Command.threadPointer),
  "ta.same_base": (session) => ask(session, Command.sameBase),
  "ta.same_canary": (session) => ask(session, Command.sameCanary),
  "ta.canary_is_random": (session) => ask(session, Command.canaryIsRandom),
  "ta.initialized": (session) => ask(session, Command.initialized),
  "ta.zeroed": (session) => ask(session, Command.zeroed),
  "ta.kept_between_entries": async (session) => {
    await ask(session, Command.counts);
    return ask(session, Command.counts);
  },
  "ta.after_a_call": (session) => ask(session, Command.afterCall),
  "ta.many_entries": async (session) => {
    let found = await ask(session, Command.sameBase);
    for (let n = 1; n < MANY && found.got === found.want; n++) found = await ask(session, Command.sameBase);
    return found;
  },
  "ta.overrun_kills": die,
  "ta.instances_apart": async (session) => {
    await ask(session, Command.counts);
    const { got } = await ask(await session.openAnother(), Command.counts);
    return { got, want: 1n };
  },
  "ta.fresh_after_death": async (session) => {
    const death = await die(session);
    return death.got === death.want ? ask(await session.openAnother(), Command.initialized) : death;
  },
};

export const taProbeNames: readonly string[] = Object.keys(probes);

/** Runs one probe in a TEE of its own. */
export async function runTaProbe(guest: string, name: string, provider: string, id: string): Promise<CaseResult> {
  const start = performance.now();
  const bed = new TaBed({ provider, seed: 0 }, []);
  let message = "";
  try {
    const found = await probes[name]?.(await bed.open(guest));
    if (found === undefined) message = "there is no such probe";
    else if (found.got !== found.want)
      message = `FAIL ${name}: got 0x${found.got.toString(16)} expected 0x${found.want.toString(16)}`;
  } catch (error) {
    if (!(error instanceof UserError || error instanceof HostPanic || error instanceof TaOpenError)) throw error;
    ({ message } = error);
  } finally {
    await bed.close();
  }
  const ms = performance.now() - start;
  return { id, status: message === "" ? "passed" : "failed", ms, message, digest: "", updated: false };
}
