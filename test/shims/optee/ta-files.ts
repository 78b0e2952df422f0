/** The trusted applications of fixtures/ta, built when they are first asked for. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readTa, type TaBinary } from "../../../shims/optee/binary.ts";
import { TeeHost, type TeeHostOptions } from "../../../shims/optee/host.ts";

const ROOT = join(import.meta.dirname, "../../..");

export type TaName =
  | "probe"
  | "counter"
  | "threads"
  | "dies"
  | "caller"
  | "hostile"
  | "tour"
  | "library"
  | "needs-library";

function build(): Record<TaName | "ldelf", string> {
  const done = spawnSync(process.execPath, [join(ROOT, "fixtures/ta/build.mjs")], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`fixtures/ta/build.mjs failed:\n${done.stderr}`);
  return JSON.parse(done.stdout);
}

/** Files of all fixture TAs. */
export const taFiles: Readonly<Record<TaName | "ldelf", string>> = Object.freeze(build());

export function ta(name: TaName): TaBinary {
  const file = taFiles[name];
  return readTa(readFileSync(file), file);
}

/** A TA with other flags than its head has. */
export function withFlags(name: TaName, flags: number): TaBinary {
  return { ...ta(name), flags };
}

/** A TEE with these TAs, the first of them its main one. */
export function teeWith(names: readonly [TaName, ...TaName[]], options: Omit<TeeHostOptions, "tas"> = {}): TeeHost {
  const [first, ...rest] = names;
  return new TeeHost({ ...options, tas: [ta(first), ...rest.map(ta)] });
}
