import { formatDescriptor, type UserDesc } from "../emulator/descriptors.ts";
import { errnoName } from "./errno.ts";
import type { LedgerRecord } from "./ledger.ts";
import type { Request, Side } from "./requests.ts";
import type { TlsState } from "./state.ts";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** The keys of 32-bit numbers that are guest addresses and so are shown as one. */
const ADDRESS_KEYS: ReadonlySet<string> = new Set(["base_addr"]);

/** A record in JSON's terms: bigints and addresses as `"0x…"`, absent fields left out. */
export function recordToJson(record: LedgerRecord): Json {
  return toJson(record, "");
}

function toJson(value: unknown, key: string): Json {
  switch (typeof value) {
    case "bigint":
      return hex(value);
    case "number":
      return ADDRESS_KEYS.has(key) ? hex(value) : value;
    case "string":
    case "boolean":
      return value;
    case "object": {
      if (value === null) return null;
      if (Array.isArray(value)) return value.map((item) => toJson(item, key));
      const json: { [key: string]: Json } = {};
      for (const [name, field] of Object.entries(value)) if (field !== undefined) json[name] = toJson(field, name);
      return json;
    }
    default:
      throw new TypeError(`no JSON for a ${typeof value} in field ${key}`);
  }
}

/** One line for people: `SetFsBase 0x7000 granted by direct: fs_base 0x0 → 0x7000`. */
export function formatRecord(record: LedgerRecord): string {
  return `${formatRequest(record.request)} ${formatVerdict(record)}`;
}

function formatVerdict(record: LedgerRecord): string {
  const { outcome, provider } = record;
  switch (outcome.kind) {
    case "denied":
      return `denied by ${outcome.rule}${outcome.errno === undefined ? "" : `: ${errnoName(outcome.errno)}`}`;
    case "misuse":
      return `granted by ${provider}: token ${outcome.misuse} by thread ${outcome.by}`;
    case "failure":
      return `granted by ${provider}: Failure(${formatSides(outcome.sides ?? [], errnoName(outcome.errno))})`;
    case "unsupported":
      return `granted by ${provider}: Unsupported`;
    case "unimplemented":
      return `granted by ${provider}: Unimplemented(${outcome.name})`;
    case "ok":
      return `granted by ${provider}: ${formatSuccess(record, outcome.value, outcome.desc)}`;
  }
}

function formatSides(sides: readonly Side[], inner: string): string {
  return sides.reduceRight((text, side) => `${side}(${text})`, inner);
}

function formatSuccess(record: LedgerRecord, value: bigint, desc: UserDesc | undefined): string {
  const { request } = record;
  if (request.kind === "GetFsBase" || request.kind === "GetGsBase") return `= ${hex(value)}`;
  if (request.kind === "GetThreadArea" && desc !== undefined) return `= ${formatUserDesc(desc)}`;
  if (request.kind === "LoadSelectors" && value !== 0n)
    return `refused with vector ${value >> 16n}, error code ${hex(value & 0xffffn)}`;
  const changes = formatChanges(record.before, record.after);
  return changes.length === 0 ? "nothing changed" : changes.join(", ");
}

/** A request in the guest's language: `SetFsBase 0x7000`, `SetThreadArea {entry_number=-1, …}`. */
function formatRequest(request: Request): string {
  switch (request.kind) {
    case "SetFsBase":
    case "SetGsBase":
      return `${request.kind} ${hex(request.address)}${request.keepsSelector ? " (selector kept)" : ""}`;
    case "SetThreadArea":
      return `${request.kind} ${formatUserDesc(request.desc)}`;
    case "SetLdtEntry":
      return `${request.kind} ${formatUserDesc(request.desc)}${request.legacy ? " (legacy)" : ""}`;
    case "GetThreadArea":
      return `${request.kind} ${request.entry_number}`;
    case "LoadSelectors": {
      const parts = Object.entries(request.selectors).map(([segment, selector]) => `${segment}=${hex(selector)}`);
      return `${request.kind} ${parts.join(" ")}`;
    }
    default:
      return request.kind;
  }
}

/** A `user_desc` as strace prints it. */
function formatUserDesc(desc: UserDesc): string {
  const flag = (set: boolean): number => (set ? 1 : 0);
  return (
    `{entry_number=${desc.entry_number | 0}, base_addr=${hex(desc.base_addr)}, limit=${hex(desc.limit)}, ` +
    `seg_32bit=${flag(desc.seg_32bit)}, contents=${desc.contents}, read_exec_only=${flag(desc.read_exec_only)}, ` +
    `limit_in_pages=${flag(desc.limit_in_pages)}, seg_not_present=${flag(desc.seg_not_present)}, ` +
    `useable=${flag(desc.useable)}}`
  );
}

function formatChanges(before: TlsState, after: TlsState): string[] {
  const changes: string[] = [];
  if (before.fsBase !== after.fsBase) changes.push(`fs_base ${hex(before.fsBase)} → ${hex(after.fsBase)}`);
  if (before.gsBase !== after.gsBase) changes.push(`gs_base ${hex(before.gsBase)} → ${hex(after.gsBase)}`);
  if (before.fs !== after.fs) changes.push(`fs ${hex(before.fs)} → ${hex(after.fs)}`);
  if (before.gs !== after.gs) changes.push(`gs ${hex(before.gs)} → ${hex(after.gs)}`);
  for (const { table, index, raw } of after.descriptors) {
    const old = before.descriptors.find((descriptor) => descriptor.table === table && descriptor.index === index);
    const oldRaw = old?.raw ?? 0n;
    if (oldRaw !== raw) changes.push(`${table}[${index}] ${formatDescriptor(oldRaw)} → ${formatDescriptor(raw)}`);
  }
  if (before.ldtSize !== after.ldtSize) changes.push(`ldt entries ${before.ldtSize ?? 0} → ${after.ldtSize ?? 0}`);
  return changes;
}

/** The guest address that a request is about: the base it wants; undefined where it has none. */
export function addressOf(request: Request): bigint | undefined {
  switch (request.kind) {
    case "SetFsBase":
    case "SetGsBase":
      return request.address;
    case "SetThreadArea":
    case "SetLdtEntry":
      return BigInt(request.desc.base_addr);
    default:
      return undefined;
  }
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
