/** `shimbed bisect`: the fewest faults, or the smallest seed, that make a run end otherwise. */
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { type GuestReport, runToEnd } from "../guest-run.ts";
import { FEW_RECORDS } from "../kept-records.ts";
import type { GuestOptions } from "../options.ts";
import { print } from "../output.ts";
import { testError } from "./execute.ts";

export interface BisectOptions extends GuestOptions {
  readonly seeds?: { readonly from: number; readonly to: number };
  /** What a good run ends with; what it ends with without faults if left out. */
  readonly status?: number;
}

const SECONDS = 60;
const FOUND_STATUS = 1;

/** What of a run counts. */
interface Ending {
  readonly status: number;
  readonly printed: string;
}

/** @returns 1 when something was found that makes the run fail, 0 when nothing does */
export async function bisect(guest: string, args: readonly string[], options: BisectOptions): Promise<number> {
  const { inject = [], seeds } = options;
  if (seeds === undefined && inject.length === 0) throw testError("bisect needs several --inject, or --seeds FROM..TO");
  for (const rule of inject) parseInjectRule(rule);
  let runs = 0;
  const ending = (change: Partial<GuestOptions>): Promise<Ending> => {
    runs++;
    return endingOf(guest, args, { ...options, ...change });
  };
  const good = await ending({ inject: [], ...(seeds === undefined ? {} : { seed: seeds.from, inject }) });
  const fails = (one: Ending): boolean =>
    options.status === undefined
      ? one.status !== good.status || one.printed !== good.printed
      : one.status !== options.status;
  if (seeds !== undefined) {
    for (let seed = seeds.from; seed <= seeds.to; seed++) {
      const one = await ending({ seed });
      if (!fails(one)) continue;
      print(`seed ${seed} makes the run end otherwise: status ${one.status}, ${runs} runs\n`);
      return FOUND_STATUS;
    }
    print(`no seed from ${seeds.from} to ${seeds.to} makes the run end otherwise, ${runs} runs\n`);
    return 0;
  }
  const failing = async (rules: readonly string[]): Promise<boolean> => fails(await ending({ inject: rules }));
  if (!(await failing(inject))) {
    print(`all ${inject.length} faults together do not make the run end otherwise, ${runs} runs\n`);
    return 0;
  }
  const smallest = await minimize(inject, failing);
  print(`${smallest.map((rule) => `--inject ${rule}`).join(" ")}\n`);
  print(`${smallest.length} of ${inject.length} faults: none of these can be left out; ${runs} runs\n`);
  return FOUND_STATUS;
}

/**
 * A smallest subset that still fails: no single element of it can be left out (Zeller's delta debugging).
 * @param failing true for all of `all`
 */
export async function minimize<T>(
  all: readonly T[],
  failing: (subset: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let left = all;
  let parts = 2;
  while (left.length > 1) {
    const size = Math.ceil(left.length / parts);
    const chunks = Array.from({ length: Math.ceil(left.length / size) }, (_, index) =>
      left.slice(index * size, (index + 1) * size),
    );
    const alone = await firstOf(chunks, failing);
    const without = alone === undefined ? await firstOf(withoutEach(left, chunks), failing) : undefined;
    if (alone !== undefined) {
      left = alone;
      parts = 2;
    } else if (without !== undefined) {
      left = without;
      parts = Math.max(parts - 1, 2);
    } else if (parts >= left.length) break;
    else parts = Math.min(parts * 2, left.length);
  }
  return left;
}

function withoutEach<T>(all: readonly T[], chunks: readonly (readonly T[])[]): (readonly T[])[] {
  return chunks.length < 3 ? [] : chunks.map((chunk) => all.filter((one) => !chunk.includes(one)));
}

async function firstOf<T>(
  subsets: readonly (readonly T[])[],
  failing: (subset: readonly T[]) => Promise<boolean>,
): Promise<readonly T[] | undefined> {
  for (const subset of subsets) if (await failing(subset)) return subset;
  return undefined;
}

async function endingOf(guest: string, args: readonly string[], options: GuestOptions): Promise<Ending> {
  const output: string[] = [];
  const report: GuestReport = await runToEnd({
    guest,
    args,
    options: { timeout: SECONDS, ...options },
    keptRecords: FEW_RECORDS,
    streams: {
      input: new Uint8Array(),
      output: (fd, bytes) => output.push(`${fd}${Buffer.from(bytes).toString("latin1")}`),
    },
  });
  return { status: report.status, printed: output.join("") };
}
