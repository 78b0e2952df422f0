/** `shimbed diff`. */
import path from "node:path";
import { runToEnd } from "../guest-run.ts";
import { FEW_RECORDS } from "../kept-records.ts";
import { locateGuest } from "../locate.ts";
import { type GuestOptions, guestEnvironment } from "../options.ts";
import { print } from "../output.ts";
import { compare, type Likeness, type World } from "./compare.ts";
import { testError } from "./execute.ts";
import { runNatively } from "./native-run.ts";
import { readRecording } from "./recording-file.ts";
import { type Step, StepTrace } from "./steps.ts";

export interface DiffOptions extends GuestOptions {
  readonly native?: boolean;
  readonly withProvider?: string;
  readonly withSeed?: number;
  readonly withRoot?: string;
  readonly withInject?: readonly string[];
  readonly by?: Likeness;
}

const SECONDS = 60;
const DIFFERENT_STATUS = 1;

/** Compares two recordings, or two runs of a guest. @returns 0 when they are alike, 1 when not */
export async function diff(first: string, rest: readonly string[], options: DiffOptions): Promise<number> {
  const { native, withProvider, withSeed, withRoot, withInject } = options;
  const axes = [native || undefined, withProvider, withSeed, withRoot, withInject].filter((axis) => axis !== undefined);
  let worlds: readonly [World, World];
  let likeness: Likeness = "exact";
  if (axes.length === 0) {
    const [second, ...more] = rest;
    if (second === undefined || more.length > 0)
      throw testError(
        "diff takes two recordings, or a guest with --native or one of --with-…: see `shimbed help diff`",
      );
    worlds = [recorded(first), recorded(second)];
    if (readRecording(first).run.seed !== readRecording(second).run.seed) likeness = "shape";
  } else if (native) {
    if (axes.length > 1) throw testError("--native and --with-… are two differences at once: choose one");
    // All that the native run sees.
    const ours = await live("shimbed", first, rest, { root: "/", ...options });
    worlds = [withoutVdso(ours), withoutVdso(natively(first, rest, options))];
    likeness = "calls";
  } else {
    const other: GuestOptions = {
      ...options,
      ...(withProvider === undefined ? {} : { provider: withProvider }),
      ...(withSeed === undefined ? {} : { seed: withSeed }),
      ...(withRoot === undefined ? {} : { root: withRoot }),
      ...(withInject === undefined ? {} : { inject: withInject }),
    };
    const names = [nameOf(options), nameOf(other)] as const;
    worlds = [await live(names[0], first, rest, options), await live(names[1], first, rest, other)];
    if (withSeed !== undefined || withRoot !== undefined) likeness = "shape";
  }
  const color = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
  const { lines, same } = compare(worlds[0], worlds[1], options.by ?? likeness, color);
  print(lines.map((line) => `${line}\n`).join(""));
  return same ? 0 : DIFFERENT_STATUS;
}

/** The kernel's vDSO answers these without a call that strace could see, or makes one where its clock is not good enough. */
const VDSO = new Set(["clock_gettime", "clock_gettime64", "clock_getres", "gettimeofday", "time", "getcpu"]);

function withoutVdso(world: World): World {
  return { ...world, steps: world.steps.filter(({ name }) => !VDSO.has(name)) };
}

function nameOf({ provider, seed, root, inject }: GuestOptions): string {
  const more = [root === undefined ? "" : `, root ${root}`, inject === undefined ? "" : `, inject ${inject.join(" ")}`];
  return `provider ${provider}, seed ${seed}${more.join("")}`;
}

function recorded(file: string): World {
  const { steps, end } = readRecording(file);
  return { name: path.basename(file), steps, status: end.status };
}

async function live(name: string, guest: string, args: readonly string[], options: GuestOptions): Promise<World> {
  const steps: Step[] = [];
  const trace = new StepTrace((step) => steps.push(step));
  const report = await runToEnd({
    guest,
    args,
    options: { timeout: SECONDS, ...options },
    keptRecords: FEW_RECORDS,
    streams: { input: new Uint8Array(), output: () => {} },
    trace: { consumer: trace },
    ready: ({ kernel }) => trace.watch(kernel),
  });
  return { name, steps, status: report.status };
}

function natively(guest: string, args: readonly string[], options: DiffOptions): World {
  if (options.root !== undefined && options.root !== "/")
    throw testError("--native runs the guest on this machine: only --root / fits");
  const envp = guestEnvironment(options, process.env);
  return runNatively({
    program: locateGuest(guest, undefined, undefined),
    argv0: options.argv0 ?? guest,
    args,
    envp,
    input: new Uint8Array(),
    timeout: (options.timeout ?? SECONDS) * 1000,
  });
}
