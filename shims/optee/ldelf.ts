/** Loads a TA by a real ldelf, OP-TEE's own loader, which runs as a guest and asks for its mappings by system calls. */
import { parseElf } from "../../emulator/elf.ts";
import { ElfSymbols } from "../../emulator/elf-symbols.ts";
import { PrivateArea } from "./areas.ts";
import type { TaBinary } from "./binary.ts";
import { Call } from "./call.ts";
import { readDynamicTables } from "./dynamic.ts";
import type { Instance } from "./instance.ts";
import { type LoadedModule, layOutTls, loadTa } from "./loader.ts";
import { pageDown } from "./memory.ts";
import { fail, Tee as TeeResult } from "./results.ts";
import type { CallTable } from "./table.ts";
import type { Tee } from "./tee.ts";
import type { UserMode } from "./user-mode.ts";
import { NIL_UUID, uuidToBytes } from "./uuid.ts";

/** The files ldelf has open. */
export class LdelfContext {
  readonly binaries: (uuid: string) => TaBinary | undefined;
  readonly open = new Map<number, TaBinary>();
  #last = 0;

  constructor(binaries: (uuid: string) => TaBinary | undefined) {
    this.binaries = binaries;
  }

  add(binary: TaBinary): number {
    this.open.set(++this.#last, binary);
    return this.#last;
  }
}

const STACK_BYTES = 0x1_0000;
/** struct ldelf_arg has 72 bytes, and 80 since it says where the TA was loaded. */
const ARG_BYTES = 80;
const ARG_FLAGS = 0x14;
const ARG_ENTRY = 0x18;

/** Reads ldelf's own file: it has no head. */
export function readLdelf(bytes: Uint8Array, name: string): TaBinary {
  const image = parseElf(bytes, name);
  return { name, bytes, image, uuid: NIL_UUID, library: true, flags: 0, stackSize: 0, entry: image.entry };
}

/** Runs ldelf for an instance, which then has its entry point. Ends the call that loads when it fails. */
export function loadByLdelf(tee: Tee, userMode: UserMode, table: CallTable, ldelf: TaBinary, instance: Instance): void {
  const { memory } = instance;
  const loaded = loadTa(memory, [ldelf], layOutTls([]), 0, { permanent: true });
  const area = new PrivateArea("[ldelf stack]", { permanent: true });
  const stack = memory.mapGuarded(STACK_BYTES, area);
  const arg = stack + STACK_BYTES - ARG_BYTES;
  memory.guest.write(arg, uuidToBytes(instance.uuid));
  instance.modules = loaded.modules;
  const call = new Call(tee, instance, undefined, new LdelfContext((uuid) => tee.binary(uuid)));
  const start = { rip: loaded.entry, rsp: arg - (arg % 16), rdi: arg };
  const ended = userMode.enter(call, start, table, "ldelf", false);
  if (ended.kind === "panicked") {
    tee.died(instance, ended.report);
    fail(TeeResult.ERROR_TARGET_DEAD, ended.report.reason);
  }
  const result = Number(BigInt.asUintN(32, ended.value));
  if (result !== TeeResult.SUCCESS) fail(result, "ldelf could not load it");
  instance.entry = memory.u64(arg + ARG_ENTRY);
  instance.flags = memory.u32(arg + ARG_FLAGS);
  instance.modules = [...loaded.modules, asModule(instance)];
}

/** Where ldelf has put the TA follows from its entry point. */
function asModule({ binary, entry }: Instance): LoadedModule {
  const bias = entry - binary.entry;
  const { start, end } = binary.image.span;
  return {
    binary,
    bias: pageDown(bias),
    start: start + bias,
    end: end + bias,
    symbols: new ElfSymbols(binary.bytes, binary.image),
    dynamic: readDynamicTables(binary.bytes, binary.image),
    tlsId: 0,
    tlsOffset: 0,
  };
}
