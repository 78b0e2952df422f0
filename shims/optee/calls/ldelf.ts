/** The system calls of ldelf (OP-TEE's ldelf_syscalls.h; core/kernel/ldelf_syscalls.c). */
import { PROT_EXEC, PROT_READ, PROT_WRITE } from "../../../emulator/memory.ts";
import { PAGE_SIZE } from "../../../emulator/physical-memory.ts";
import { PrivateArea } from "../areas.ts";
import type { TaBinary } from "../binary.ts";
import type { Call } from "../call.ts";
import {
  bytes,
  handle,
  hexLong,
  inOutAddress,
  inUuid,
  mapFlags,
  outU32,
  pointer,
  size,
  text,
  ulong,
} from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { arg, CallTable, row } from "../table.ts";
import { uuidFromBytes } from "../uuid.ts";
import { leave, log, panic } from "./log.ts";

const MapFlag = { SHAREABLE: 1, WRITEABLE: 2, EXECUTABLE: 4, BTI: 8 } as const;

function mapZi(call: Call, va: number, length: number, padBegin: number, padEnd: number, flags: number): number {
  if ((flags & ~MapFlag.SHAREABLE) !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "only LDELF_MAP_FLAG_SHAREABLE is known");
  const { memory } = call;
  const place = { at: memory.u64(va), padBegin, padEnd };
  memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, va, 8);
  const start =
    (flags & MapFlag.SHAREABLE) !== 0
      ? memory.mapShareable(length, place)
      : memory.mapPrivate(length, PROT_READ | PROT_WRITE, new PrivateArea("[zi]"), place);
  memory.setU64(va, start);
  return Tee.SUCCESS;
}

function unmap(call: Call, va: number, length: number): number {
  call.memory.unmap(va, length);
  return Tee.SUCCESS;
}

function openBin(call: Call, uuidAt: number, uuidSize: number, handleAt: number): number {
  const uuid = uuidFromBytes(call.memory.bytes(uuidAt, 16));
  call.memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, handleAt, 4);
  if (uuidSize !== 16) fail(Tee.ERROR_BAD_PARAMETERS, "a UUID has 16 bytes");
  const binary = call.ldelf?.binaries(uuid);
  if (call.ldelf === undefined || binary === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, `${uuid} is not given`);
  call.memory.setU32(handleAt, call.ldelf.add(binary));
  return Tee.SUCCESS;
}

function opened(call: Call, number: number): TaBinary {
  return call.ldelf?.open.get(number) ?? fail(Tee.ERROR_BAD_PARAMETERS, `handle ${number} is not open`);
}

function closeBin(call: Call, number: number): number {
  opened(call, number);
  call.ldelf?.open.delete(number);
  return Tee.SUCCESS;
}

function mapBin(
  call: Call,
  va: number,
  length: number,
  number: number,
  offset: number,
  padBegin: number,
  padEnd: number,
  flags: number,
): number {
  const { memory } = call;
  const at = memory.u64(va);
  const binary = opened(call, number);
  const { SHAREABLE, WRITEABLE, EXECUTABLE, BTI } = MapFlag;
  if ((flags & ~(SHAREABLE | WRITEABLE | EXECUTABLE | BTI)) !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "unknown flags");
  if ((flags & WRITEABLE) !== 0 && (flags & (SHAREABLE | EXECUTABLE)) !== 0)
    fail(Tee.ERROR_BAD_PARAMETERS, "writable memory is neither shareable nor executable");
  if (offset % PAGE_SIZE !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "the offset is not at the start of a page");
  memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, va, 8);
  const area = new PrivateArea(binary.name, { readonly: (flags & WRITEABLE) === 0 });
  const start = memory.mapPrivate(length, PROT_READ | PROT_WRITE, area, { at, padBegin, padEnd });
  memory.guest.write(start, binary.bytes.subarray(offset, offset + length));
  memory.space.protect(start, Math.ceil(length / PAGE_SIZE) * PAGE_SIZE, protection(flags));
  memory.setU64(va, start);
  return Tee.SUCCESS;
}

function protection(flags: number): number {
  const { WRITEABLE, EXECUTABLE } = MapFlag;
  return PROT_READ | ((flags & WRITEABLE) !== 0 ? PROT_WRITE : 0) | ((flags & EXECUTABLE) !== 0 ? PROT_EXEC : 0);
}

function copyFromBin(call: Call, dst: number, offset: number, length: number, number: number): number {
  call.memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, dst, length);
  const binary = opened(call, number);
  const part = binary.bytes.subarray(offset, offset + length);
  call.memory.guest.write(dst, part);
  // What lies beyond the end of the file reads as zero.
  if (part.length < length) call.memory.guest.fill(dst + part.length, length - part.length, 0);
  return Tee.SUCCESS;
}

function setProt(call: Call, va: number, length: number, flags: number): number {
  const { WRITEABLE, EXECUTABLE, BTI } = MapFlag;
  if ((flags & ~(WRITEABLE | EXECUTABLE | BTI)) !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "unknown flags");
  if ((flags & WRITEABLE) !== 0 && (flags & EXECUTABLE) !== 0)
    fail(Tee.ERROR_BAD_PARAMETERS, "writable memory is not executable");
  call.memory.setProt(va, length, protection(flags));
  return Tee.SUCCESS;
}

function remap(call: Call, oldVa: number, newVa: number, length: number, padBegin: number, padEnd: number): number {
  const at = call.memory.u64(newVa);
  call.memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, newVa, 8);
  call.memory.setU64(newVa, call.memory.remap(oldVa, length, { at, padBegin, padEnd }));
  return Tee.SUCCESS;
}

function randomNumber(call: Call, buffer: number, length: number): number {
  call.memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, buffer, length);
  call.memory.write(buffer, call.tee.entropy.bytes(length));
  return Tee.SUCCESS;
}

const pads = [arg("pad_begin", size), arg("pad_end", size)];

export const ldelfCalls: CallTable = new CallTable("ldelf", [
  row(0, "return", [arg("ret", hexLong)], leave),
  row(1, "log", [arg("buf", text(1)), arg("len", size)], log),
  row(2, "panic", [arg("code", hexLong)], panic),
  row(3, "map_zi", [arg("va", inOutAddress), arg("num_bytes", size), ...pads, arg("flags", mapFlags)], mapZi),
  row(4, "unmap", [arg("va", pointer), arg("num_bytes", size)], unmap),
  row(5, "open_bin", [arg("uuid", inUuid), arg("uuid_size", size), arg("handle", outU32)], openBin),
  row(6, "close_bin", [arg("handle", handle)], closeBin),
  row(
    7,
    "map_bin",
    [
      arg("va", inOutAddress),
      arg("num_bytes", size),
      arg("handle", handle),
      arg("offs", hexLong),
      ...pads,
      arg("flags", mapFlags),
    ],
    mapBin,
  ),
  row(
    8,
    "cp_from_bin",
    [arg("dst", pointer), arg("offs", hexLong), arg("num_bytes", size), arg("handle", handle)],
    copyFromBin,
  ),
  row(9, "set_prot", [arg("va", pointer), arg("num_bytes", size), arg("flags", mapFlags)], setProt),
  row(10, "remap", [arg("old_va", pointer), arg("new_va", inOutAddress), arg("num_bytes", size), ...pads], remap),
  row(11, "gen_rnd_num", [arg("buf", bytes(1, "exit")), arg("num_bytes", ulong)], randomNumber),
]);
