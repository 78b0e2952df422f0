/** PTRACE_GETREGSET and PTRACE_SETREGSET: the sets a program of either word size has (regsets of arch/x86/kernel/ptrace.c). */
import { gdtLayouts, readUserDesc, userDescOf, writeUserDesc } from "../../../emulator/descriptors.ts";
import { Errno } from "../errno.ts";
import { FXSAVE_BYTES, hasXsave, XSAVE_BYTES } from "../signals/fpstate.ts";
import { FSAVE_BYTES, getFsave, getFxsave, getXsave, putFsave, putFxsave, putXsave } from "./float.ts";
import { getNarrow, getWide, NARROW_REGISTERS, putNarrow, putWide, WIDE_REGISTERS } from "./registers.ts";
import type { Tracee } from "./tracee.ts";

const USER_DESC_BYTES = 16;
const { tlsFirst, tlsLast } = gdtLayouts.x86_64;

export interface RegSet {
  /** Of one element; what a tracer gives must hold whole ones. */
  readonly unit: number;
  readonly bytes: number;
  /** Its content, or a negative errno. The tracee is in the CPU. */
  get(tracee: Tracee): Uint8Array | number;
  /** Writes as many bytes as are given; 0 or a negative errno. */
  put(tracee: Tracee, bytes: Uint8Array): number;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

const wideGeneral: RegSet = {
  unit: 8,
  bytes: 8 * WIDE_REGISTERS,
  get: (tracee) => new Uint8Array(BigUint64Array.from(getWide(tracee)).buffer),
  put(tracee, bytes) {
    const view = viewOf(bytes);
    for (let index = 0; 8 * index < bytes.length; index++)
      if (putWide(tracee, index, view.getBigUint64(8 * index, true))) return -Errno.EIO;
    return 0;
  },
};

const narrowGeneral: RegSet = {
  unit: 4,
  bytes: 4 * NARROW_REGISTERS,
  get: (tracee) => new Uint8Array(Uint32Array.from(getNarrow(tracee)).buffer),
  put(tracee, bytes) {
    const view = viewOf(bytes);
    for (let index = 0; 4 * index < bytes.length; index++)
      if (putNarrow(tracee, index, view.getUint32(4 * index, true))) return -Errno.EIO;
    return 0;
  },
};

const fxsave: RegSet = {
  unit: 8,
  bytes: FXSAVE_BYTES,
  get: ({ task }) => getFxsave(task),
  put({ task }, bytes) {
    if (bytes.length !== FXSAVE_BYTES) return -Errno.EINVAL;
    return putFxsave(task, bytes) ? 0 : -Errno.EINVAL;
  },
};

const narrowFxsave: RegSet = { ...fxsave, unit: 4 };

const fsave: RegSet = {
  unit: 4,
  bytes: FSAVE_BYTES,
  get: ({ task }) => getFsave(task),
  put({ task }, bytes) {
    const image = getFsave(task);
    image.set(bytes);
    putFsave(task, image);
    return 0;
  },
};

/** What a CPU without XSAVE does not have. */
const extended: RegSet = {
  unit: 8,
  bytes: XSAVE_BYTES,
  get: ({ task }) => getXsave(task) ?? -Errno.ENODEV,
  put({ task }, bytes) {
    if (!hasXsave(task)) return -Errno.ENODEV;
    if (bytes.length !== XSAVE_BYTES) return -Errno.EFAULT;
    return putXsave(task, bytes) ? 0 : -Errno.EINVAL;
  },
};

/** There is no I/O permission bitmap to show. */
const permissions: RegSet = { unit: 8, bytes: 8192, get: () => -Errno.ENXIO, put: () => -Errno.EOPNOTSUPP };

/** A `user_desc` in plain bytes. */
const words = (view: DataView) => ({
  u32: (at: number): number => view.getUint32(at, true),
  setU32: (at: number, value: number): void => view.setUint32(at, value, true),
});

const tls: RegSet = {
  unit: USER_DESC_BYTES,
  bytes: USER_DESC_BYTES * (tlsLast - tlsFirst + 1),
  get({ task }) {
    const bytes = new Uint8Array(tls.bytes);
    const view = words(viewOf(bytes));
    for (let entry_number = tlsFirst; entry_number <= tlsLast; entry_number++) {
      const outcome = task.punch({ kind: "GetThreadArea", entry_number }, "ptrace");
      const desc =
        outcome.kind === "ok" && outcome.desc !== undefined ? outcome.desc : userDescOf(entry_number, 0, 0, 0x28);
      writeUserDesc(view, USER_DESC_BYTES * (entry_number - tlsFirst), desc);
    }
    return bytes;
  },
  put({ task }, bytes) {
    const view = words(viewOf(bytes));
    for (let at = 0; at < bytes.length; at += USER_DESC_BYTES) {
      const desc = { ...readUserDesc(view, at), entry_number: tlsFirst + at / USER_DESC_BYTES };
      const outcome = task.punch({ kind: "SetThreadArea", desc }, "ptrace");
      if (outcome.kind !== "ok") return -Errno.EINVAL;
    }
    return 0;
  },
};

const NT_PRSTATUS = 1;
const NT_PRFPREG = 2;
const NT_386_TLS = 0x200;
const NT_386_IOPERM = 0x201;
const NT_X86_XSTATE = 0x202;
const NT_PRXFPREG = 0x46e6_2b7f;

const WIDE: ReadonlyMap<number, RegSet> = new Map([
  [NT_PRSTATUS, wideGeneral],
  [NT_PRFPREG, fxsave],
  [NT_X86_XSTATE, extended],
  [NT_386_IOPERM, permissions],
]);
const NARROW: ReadonlyMap<number, RegSet> = new Map([
  [NT_PRSTATUS, narrowGeneral],
  [NT_PRFPREG, fsave],
  [NT_PRXFPREG, narrowFxsave],
  [NT_X86_XSTATE, extended],
  [NT_386_TLS, tls],
  [NT_386_IOPERM, { ...permissions, unit: 4 }],
]);

/** A set by its number, as a program has it that runs 64-bit code or not. */
export function regSet(wide: boolean, type: number): RegSet | undefined {
  return (wide ? WIDE : NARROW).get(type);
}

export { fsave, fxsave, narrowGeneral, wideGeneral };
