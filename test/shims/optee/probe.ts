/** Makes system calls out of the probe TA: every argument is what the test says, buffers are placed in the TA's memory. */
import { uteeCalls } from "../../../shims/optee/calls/all.ts";
import { invokeCommand, openSession } from "../../../shims/optee/client.ts";
import type { TeeHost, TeeHostOptions } from "../../../shims/optee/host.ts";
import { resultName, Tee } from "../../../shims/optee/results.ts";
import type { Session } from "../../../shims/optee/session.ts";
import { type TaName, teeWith } from "./ta-files.ts";

const STEP_BYTES = 88;
const MEMORY_BYTES = 1 << 20;

/** A buffer in the TA's memory: what is in it before the call. */
export class Buf {
  readonly data: Uint8Array;
  constructor(data: Uint8Array) {
    this.data = data;
  }
}

/** Attributes, each with a number or bytes. */
export type AttributeList = readonly (readonly [id: number, value: number | Uint8Array])[];

export const text = (value: string): Buf => new Buf(Buffer.from(value, "utf8"));
export const bytes = (value: Uint8Array | string): Buf =>
  new Buf(typeof value === "string" ? Buffer.from(value, "hex") : value);
export const room = (size: number): Buf => new Buf(new Uint8Array(size));
export const u32 = (value = 0): Buf => {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value, true);
  return new Buf(data);
};
export const u64 = (value = 0): Buf => {
  const data = new Uint8Array(8);
  new DataView(data.buffer).setBigUint64(0, BigInt(value), true);
  return new Buf(data);
};

/** struct utee_params: a type with a buffer or two values each. */
export class Params {
  readonly list: readonly (readonly [type: number, content: Buf | readonly [number, number]])[];
  constructor(...list: readonly (readonly [type: number, content: Buf | readonly [number, number]])[]) {
    this.list = list;
  }
}

export type Argument = number | bigint | Buf | Params | AttributeList;

export interface Reply {
  /** TEE_Result by name. */
  readonly result: string;
  /** The buffers after the call, in the order of the arguments. */
  readonly out: readonly Uint8Array[];
}

const isList = (argument: Argument): argument is AttributeList => Array.isArray(argument);

export class Probe {
  readonly host: TeeHost;
  readonly session: Session;

  constructor(options: Omit<TeeHostOptions, "tas"> = {}, others: readonly TaName[] = []) {
    this.host = teeWith(["probe", ...others], options);
    const { session, answer } = openSession(this.host.tee, this.host.main.uuid, []);
    if (session === undefined) throw new Error(`the probe did not open: ${resultName(answer.result)}`);
    this.session = session;
  }

  /** One call by name or number. */
  call(name: string | number, ...args: readonly Argument[]): Reply {
    const number = typeof name === "number" ? name : uteeCalls.rows.find((row) => row.name === name)?.number;
    if (number === undefined) throw new Error(`no call ${name}`);
    const memory = Buffer.alloc(MEMORY_BYTES);
    const step = Buffer.alloc(STEP_BYTES);
    step.writeBigUInt64LE(BigInt(number), 0);
    const places: { at: number; length: number }[] = [];
    let next = 16;
    let tags = 0;
    const place = (data: Uint8Array): number => {
      const at = next;
      memory.set(data, at);
      next += Math.ceil((data.length + 1) / 16) * 16;
      return at;
    };
    const fixes: number[] = [];
    args.forEach((argument, index) => {
      let word: bigint;
      if (argument instanceof Buf) {
        const at = place(argument.data);
        places.push({ at, length: argument.data.length });
        word = BigInt(at);
        tags |= 1 << index;
      } else if (isList(argument)) {
        const table = Buffer.alloc(24 * argument.length);
        argument.forEach(([id, value], n) => {
          if (typeof value === "number") table.writeUInt32LE(value >>> 0, 24 * n);
          else {
            table.writeBigUInt64LE(BigInt(place(value)), 24 * n);
            table.writeBigUInt64LE(BigInt(value.length), 24 * n + 8);
          }
          table.writeUInt32LE(id >>> 0, 24 * n + 16);
        });
        const at = place(table);
        argument.forEach(([, value], n) => {
          if (typeof value !== "number") fixes.push(at + 24 * n);
        });
        word = BigInt(at);
        tags |= 1 << index;
      } else if (argument instanceof Params) {
        const table = Buffer.alloc(72);
        const pointers: number[] = [];
        argument.list.forEach(([type, content], n) => {
          table.writeUInt32LE(table.readUInt32LE(0) | (type << (4 * n)), 0);
          const slot = 8 + 16 * n;
          if (content instanceof Buf) {
            const at = place(content.data);
            places.push({ at, length: content.data.length });
            table.writeBigUInt64LE(BigInt(at), slot);
            table.writeBigUInt64LE(BigInt(content.data.length), slot + 8);
            pointers.push(slot);
          } else {
            table.writeBigUInt64LE(BigInt(content[0]), slot);
            table.writeBigUInt64LE(BigInt(content[1]), slot + 8);
          }
        });
        const at = place(table);
        places.push({ at, length: table.length });
        fixes.push(...pointers.map((slot) => at + slot));
        word = BigInt(at);
        tags |= 1 << index;
      } else word = BigInt.asUintN(64, BigInt(argument));
      step.writeBigUInt64LE(word, 8 + 8 * index);
    });
    step.writeBigUInt64LE(BigInt(tags), 72);
    // References inside of buffers are offsets until the TA says where its memory is.
    const base = fixes.length > 0 ? this.#base() : 0n;
    for (const at of fixes) memory.writeBigUInt64LE(memory.readBigUInt64LE(at) + base, at);
    const answer = invokeCommand(this.host.tee, this.session, 0, [
      { type: "memref_inout", data: step },
      { type: "memref_inout", data: memory.subarray(0, next) },
    ]);
    if (answer.result !== Tee.SUCCESS) throw new Error(`the probe died: ${resultName(answer.result)} ${answer.reason}`);
    const [steps, after] = answer.outputs;
    if (steps?.kind !== "memory" || after?.kind !== "memory") throw new Error("the probe gave nothing back");
    const result = Number(Buffer.from(steps.data).readBigUInt64LE(80));
    return { result: resultName(result), out: places.map(({ at, length }) => after.data.slice(at, at + length)) };
  }

  /** The same, expecting success; the buffers after the call. */
  ok(name: string, ...args: readonly Argument[]): readonly Uint8Array[] {
    const { result, out } = this.call(name, ...args);
    if (result !== "TEE_SUCCESS") throw new Error(`${name}: ${result}`);
    return out;
  }

  /** A call whose last argument is where a handle goes. */
  handle(name: string, ...args: readonly Argument[]): number {
    return word(this.ok(name, ...args, u32()).at(-1));
  }

  /** Where the TA's memory is, found through the symbol table. */
  #base(): bigint {
    const { target } = this.session;
    if (!("modules" in target)) throw new Error("the probe is gone");
    const [module] = target.modules;
    if (module === undefined) throw new Error("the probe has no module");
    for (let address = module.start; address < module.end; address += 4096) {
      if (module.symbols.lookup(address - module.bias) === "memory") return BigInt(address);
    }
    throw new Error("the probe has no memory");
  }

  close(): void {
    this.host.close();
  }
}

/** The number in a buffer of four or eight bytes. */
export function word(data: Uint8Array | undefined): number {
  if (data === undefined) return 0;
  const buffer = Buffer.from(data);
  return data.length === 8 ? Number(buffer.readBigUInt64LE(0)) : buffer.readUInt32LE(0);
}

export const hex = (data: Uint8Array | undefined): string => Buffer.from(data ?? []).toString("hex");
