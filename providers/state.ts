import { gdtLayouts, type UserDesc } from "../emulator/descriptors.ts";
import type { Platform } from "./platform.ts";
import type { Request, Result } from "./requests.ts";

/** A raw descriptor and where it stands. */
interface DescriptorState {
  table: "gdt" | "ldt";
  index: number;
  raw: bigint;
}

/** The guarded CPU state at one moment, as far as a request can touch it. */
export interface TlsState {
  fsBase: bigint;
  gsBase: bigint;
  /** Selectors. */
  fs: number;
  gs: number;
  /** The descriptors the request names; all TLS entries for `ClearTls`. */
  descriptors: readonly DescriptorState[];
  /** Entries in the LDT, for requests that can change it. */
  ldtSize?: number;
}

const NO_DESCRIPTORS: readonly DescriptorState[] = Object.freeze([]);

/** Reads the state around a request. For entry -1 it has every TLS entry, as the choice is not made yet. */
export function captureState(platform: Platform, request: Request): TlsState {
  const { privileged } = platform.cpu;
  const state: TlsState = {
    fsBase: privileged.fsBase,
    gsBase: privileged.gsBase,
    fs: platform.cpu.selector("fs"),
    gs: platform.cpu.selector("gs"),
    descriptors: NO_DESCRIPTORS,
  };
  switch (request.kind) {
    case "SetThreadArea":
      state.descriptors = tlsDescriptors(platform, request.desc.entry_number | 0);
      break;
    case "GetThreadArea":
      state.descriptors = tlsDescriptors(platform, request.entry_number);
      break;
    case "SetLdtEntry":
      state.ldtSize = privileged.ldtSize;
      state.descriptors = ldtDescriptor(platform, request.desc);
      break;
    case "ClearTls":
      state.ldtSize = privileged.ldtSize;
      state.descriptors = tlsDescriptors(platform, -1);
      break;
    default:
  }
  return state;
}

function tlsDescriptors(platform: Platform, entry: number): readonly DescriptorState[] {
  const { tlsFirst, tlsLast } = gdtLayouts[platform.layout];
  const { privileged } = platform.cpu;
  if (entry >= tlsFirst && entry <= tlsLast) return [{ table: "gdt", index: entry, raw: privileged.gdtEntry(entry) }];
  if (entry !== -1) return NO_DESCRIPTORS;
  const all: DescriptorState[] = [];
  for (let index = tlsFirst; index <= tlsLast; index++)
    all.push({ table: "gdt", index, raw: privileged.gdtEntry(index) });
  return all;
}

function ldtDescriptor(platform: Platform, desc: UserDesc): readonly DescriptorState[] {
  const { privileged } = platform.cpu;
  const index = desc.entry_number >>> 0;
  return index < privileged.ldtSize ? [{ table: "ldt", index, raw: privileged.ldtEntry(index) }] : NO_DESCRIPTORS;
}

/** Once entry -1 has become a number, the state of the other TLS entries is left out. */
export function keepChosen(state: TlsState, request: Request, result: Result): TlsState {
  if (request.kind !== "SetThreadArea" || state.descriptors.length <= 1) return state;
  const chosen = result.kind === "ok" ? result.desc?.entry_number : undefined;
  return { ...state, descriptors: state.descriptors.filter((descriptor) => descriptor.index === chosen) };
}

/** The raw LDT of the current address space, for modify_ldt's read function. */
export function ldtEntries(platform: Platform): bigint[] {
  const { privileged } = platform.cpu;
  return Array.from({ length: privileged.ldtSize }, (_, index) => privileged.ldtEntry(index));
}
