/** Makes the memory of a new instance: TLS, the TA itself, its stack. */
import { PAGE_SIZE } from "../../emulator/physical-memory.ts";
import { PrivateArea } from "./areas.ts";
import type { TaBinary } from "./binary.ts";
import { Instance, type TaTls } from "./instance.ts";
import { layOutTls, loadTa, type TlsLayout, withLibraries } from "./loader.ts";
import { pageUp, TaMemory } from "./memory.ts";
import type { Tee } from "./tee.ts";

/** Linux' and LiteBox' end of user space on x86-64. */
const USER_END = 0x7fff_ffff_f000;
/** LiteBox gives every TA this much and does not look at its head; a head may ask for more. */
const STACK_BYTES = 0x10_0000;
/** Pages by which the placement of a TA differs between runs of different seeds. */
const RANDOM_PAGES = 0x1_0000;
/** tcbhead_t of x86-64: the thread's own address, the stack protector's canary and the pointer guard. */
const TCB_SELF = 0;
const TCB_SELF2 = 0x10;
const TCB_CANARY = 0x28;
const TCB_POINTER_GUARD = 0x30;

/** @param map whether to load the TA too; otherwise ldelf does it. Errors end the call that loads. */
export function createInstance(tee: Tee, binary: TaBinary, id: number, map: boolean): Instance {
  const { machine, entropy } = tee;
  const space = machine.newSpace(USER_END);
  try {
    const memory = new TaMemory(space, machine.physical, USER_END - (1 + entropy.below(RANDOM_PAGES)) * PAGE_SIZE);
    const binaries = map ? withLibraries(binary, (uuid) => tee.binary(uuid)) : [binary];
    const layout = layOutTls(binaries);
    const permanent = { permanent: true };
    const stackBytes = Math.max(STACK_BYTES, pageUp(binary.stackSize));
    const stack = memory.mapGuarded(stackBytes, new PrivateArea("[stack]", permanent));
    const tls = mapTls(tee, memory, layout);
    const instance = new Instance(id, binary, memory, tls, stack + stackBytes);
    if (map) {
      const loaded = loadTa(memory, binaries, layout, tls.base);
      instance.entry = loaded.entry;
      instance.modules = loaded.modules;
    } else {
      // ldelf of x86-64 knows no PT_TLS, so the initial values are put there for it.
      const { tls: segment } = binary.image;
      const offset = layout.offsets.get(binary);
      if (segment !== undefined && offset !== undefined)
        memory.guest.write(tls.base + offset, binary.bytes.subarray(segment.offset, segment.offset + segment.filesz));
    }
    return instance;
  } catch (error) {
    space.close();
    throw error;
  }
}

/** The page FS points to, with the TLS blocks of all modules below it and unmapped pages around. */
function mapTls(tee: Tee, memory: TaMemory, layout: TlsLayout): TaTls {
  const below = pageUp(layout.size);
  const area = new PrivateArea("[tls]", { permanent: true });
  const start = memory.mapGuarded(below + PAGE_SIZE, area);
  const base = start + below;
  if (tee.zeroTls) return { base, canary: 0n };
  const random = new DataView(Uint8Array.from(tee.entropy.bytes(16)).buffer);
  // The lowest byte is zero, as in glibc: a string that overruns a buffer cannot reproduce it.
  const canary = (random.getBigUint64(0, true) | 0x0100_0000_0000_0100n) & ~0xffn;
  memory.setU64(base + TCB_SELF, base);
  memory.setU64(base + TCB_SELF2, base);
  memory.guest.setU64(base + TCB_CANARY, canary);
  memory.guest.setU64(base + TCB_POINTER_GUARD, random.getBigUint64(8, true));
  return { base, canary };
}
