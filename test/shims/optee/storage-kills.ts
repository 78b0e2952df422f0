/** Kills processes that write to a storage file, and looks each time whether the file is as it has to be. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { FileStore } from "../../../shims/optee/storage/file-store.ts";
import { TA, versionOf } from "./storage-pattern.ts";

const ROOT = join(import.meta.dirname, "../../..");
const WRITER = join(import.meta.dirname, "storage-writer.ts");
/** A writer is killed so many milliseconds after its first write was done, at most. */
const LONGEST_MS = 120;

export interface Kills {
  readonly kills: number;
  /** Writes that had been committed when the process was killed. */
  readonly committed: number;
  /** Processes killed in the middle of a write. */
  readonly during: number;
  /** Such writes that had come through all the same. */
  readonly through: number;
}

/** Starts a writer and kills it; which writes it began and which of them were done. */
async function killedWriter(
  file: string,
  start: number,
  milliseconds: number,
): Promise<{ readonly begun: readonly number[]; readonly done: readonly number[] }> {
  const child = spawn(process.execPath, ["--import", "tsx", WRITER, file, String(start)], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.stdout.on("data", (data: Buffer) => {
    // The clock starts when the first write is done: until then there is nothing to lose.
    const before = said.includes("done");
    said += data.toString();
    if (!before && said.includes("done")) setTimeout(() => child.kill("SIGKILL"), milliseconds);
  });
  await ended;
  const numbers = (word: string): number[] =>
    [...said.matchAll(new RegExp(`^${word} (\\d+)$`, "gm"))].map((match) => Number(match[1]));
  return { begun: numbers("begin"), done: numbers("done") };
}

/**
 * Kills so many writers one after the other, at moments that the seed decides.
 * @throws Error when something committed is lost or something half-written is there
 */
export async function killWriters(file: string, rounds: number, seed: number): Promise<Kills> {
  const last = new Map<string, number>();
  let next = 1;
  let random = seed;
  const counts = { kills: 0, committed: 0, during: 0, through: 0 };
  for (let round = 0; round < rounds; round++) {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    const { begun, done } = await killedWriter(file, next, (random >>> 8) % LONGEST_MS);
    for (const version of done) last.set(`0${version % 5}`, version);
    const open = begun.find((version) => !done.includes(version));
    const store = new FileStore(file, new Uint8Array(32));
    if (store.damage !== undefined) throw new Error(`after kill ${round}: ${store.damage}`);
    for (const id of new Set([...last.keys(), ...(open === undefined ? [] : [`0${open % 5}`])])) {
      const data = Buffer.from(store.read({ ta: TA, id })?.data ?? []);
      const version = data.length === 0 ? undefined : data.readUInt32LE(0);
      const through = open !== undefined && version === open;
      if (version !== last.get(id) && !through)
        throw new Error(`after kill ${round}: object ${id} has version ${version}, and ${last.get(id)} was committed`);
      if (version === undefined) continue;
      if (!data.equals(versionOf(version).data))
        throw new Error(`after kill ${round}: version ${version} is not whole`);
      if (through) counts.through++;
      last.set(id, version);
    }
    counts.kills++;
    counts.committed += done.length;
    if (open !== undefined) counts.during++;
    next = Math.max(next, ...begun) + 1;
  }
  return counts;
}
