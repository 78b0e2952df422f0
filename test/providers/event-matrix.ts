import { providerInfos } from "../../providers/registry.ts";
import { type Bits, DATA } from "../emulator/guest.ts";
import { Call, call, type MiniOptions, type MiniRun, runMini } from "./mini-shim.ts";

/** Places for TLS, with a word each that tells them apart. */
const SET = DATA;
const OWN = DATA + 0x1000;
const CHILD = DATA + 0x1400;
const DESC = DATA + 0x800;
const WORDS: ReadonlyMap<bigint, string> = new Map([
  [0xa1n, "as set"],
  [0xb2n, "as written"],
  [0xc3n, "the child's"],
]);

/**
 * Puts the words in place and gives the guest the base SET by a request. On i386 the selector of a second descriptor, with base
 * OWN, is in EBP then.
 */
export function prologue(bits: Bits): string {
  const words = [
    [SET, 0xa1],
    [OWN, 0xb2],
    [CHILD, 0xc3],
  ].map(([place, word]) => `mov eax, ${place}\nmov dword ptr [eax], ${word}\n`);
  const set =
    bits === 64 ? `mov edi, ${SET}\n${call(64, Call.setFsBase)}` : `${area(OWN)}mov ebp, eax\n${area(SET)}mov gs, ax\n`;
  return words.join("") + set;
}

/** set_thread_area(-1); leaves the selector in EAX. */
function area(base: number): string {
  return `mov edx, ${DESC}
mov dword ptr [edx], -1
mov dword ptr [edx+4], ${base}
mov dword ptr [edx+8], 0xfffff
mov dword ptr [edx+12], 0x51
${call(32, Call.setThreadArea, "edx")}
mov eax, dword ptr [edx]
lea eax, [eax*8+3]
`;
}

/** The guest changes its base by itself. */
const write = (bits: Bits): string => (bits === 64 ? `mov eax, ${OWN}\nwrfsbase rax\n` : "mov gs, bp\n");
/** Reports the word behind the base. */
export const look = (bits: Bits): string =>
  bits === 64
    ? `xor eax, eax\nmov edi, dword ptr fs:[rax]\n${call(64, Call.report)}`
    : `xor eax, eax\nmov ebx, dword ptr gs:[eax]\n${call(32, Call.report)}`;
export const exit = (bits: Bits): string => call(bits, Call.exit);
/** Some blocks, for an event to strike between. */
const blocks = "jmp 1f\n1:\nnop\njmp 2f\n2:\nnop\n";
/** The address of a label, in the register of a call's first argument. */
const at = (bits: Bits, label: string): string =>
  bits === 64 ? `lea rdi, [rip + ${label}]\n` : `call 8f\n8: pop ebx\nadd ebx, ${label}-8b\n`;
const noTls = (bits: Bits): string => (bits === 64 ? "xor esi, esi\n" : "xor ecx, ecx\n");
const childTls = (bits: Bits): string =>
  bits === 64 ? `mov esi, ${CHILD}\n` : `mov ecx, ${DESC}\nmov dword ptr [ecx+4], ${CHILD}\n`;

/** What lies between the setting of a base and the look at it; `own` is what the guest does to its base in between. */
const bodies: Readonly<Record<string, (bits: Bits, own: string) => string>> = {
  "system call return": (bits, own) => `${own}${call(bits, Call.nothing)}${look(bits)}${exit(bits)}`,
  exception: (bits, own) => `${own}ud2\n${look(bits)}${exit(bits)}`,
  interrupt: (bits, own) => `${call(bits, Call.interrupt)}${own}${blocks}${look(bits)}${exit(bits)}`,
  reschedule: (bits, own) => `${call(bits, Call.reschedule)}${own}${blocks}${look(bits)}${exit(bits)}`,
  "thread switch": (bits, own) => `${at(bits, "other")}${noTls(bits)}${call(bits, Call.spawn)}
${own}${call(bits, Call.yield)}${look(bits)}${exit(bits)}
other:
${exit(bits)}`,
  "new thread": (bits, own) => `${own}${at(bits, "other")}${noTls(bits)}${call(bits, Call.spawn)}${exit(bits)}
other:
${look(bits)}${exit(bits)}`,
  "new thread with TLS": (
    bits,
    own,
  ) => `${own}${at(bits, "other")}${childTls(bits)}${call(bits, Call.spawn)}${exit(bits)}
other:
${look(bits)}${exit(bits)}`,
  exec: (bits, own) => `${own}${at(bits, "program")}${call(bits, Call.exec)}
program:
${look(bits)}${exit(bits)}`,
  "thread exit": (bits, own) => `${at(bits, "other")}${noTls(bits)}${call(bits, Call.spawn)}
${own}${call(bits, Call.yield)}${call(bits, Call.yield)}${look(bits)}${exit(bits)}
other:
${call(bits, Call.yield)}${exit(bits)}`,
  "signal handler": (bits, own) => `${own}${at(bits, "handler")}${call(bits, Call.signal)}${exit(bits)}
handler:
${look(bits)}${exit(bits)}`,
  sigreturn: (bits, own) => `${own}${at(bits, "handler")}${call(bits, Call.signal)}${look(bits)}${exit(bits)}
handler:
${call(bits, Call.sigreturn)}`,
  "VTL switch": (bits, own) => `${own}${call(bits, Call.world)}${look(bits)}${exit(bits)}`,
};

const EVENTS = new Map(Object.entries(bodies));

/** What the guest finds behind its base in the end. */
function found(run: MiniRun): string {
  if (run.end !== "exit") return run.end.startsWith("panic") ? "panic" : "none";
  return WORDS.get(run.reports.at(-1) ?? 0n) ?? "something else";
}

/** Every provider with the word sizes it serves. */
export const served: readonly (readonly [string, Bits])[] = providerInfos.flatMap(({ name, abis }) =>
  abis.map((abi): [string, Bits] => [name, abi === "x86_64" ? 64 : 32]),
);

/** The base after an event: one that a request set, and one that the guest wrote by itself. */
export function cell(provider: string, bits: Bits, event: string, options: MiniOptions = {}): [string, string] {
  const body = EVENTS.get(event);
  if (body === undefined) throw new RangeError(`no event ${event}`);
  const run = (own: string): string => found(runMini(bits, prologue(bits) + body(bits, own), { provider, ...options }));
  return [run(""), run(write(bits))];
}

/** One or two words for what becomes of a base that a token set, and of one that the guest wrote by itself. */
function wordOf(set: string, written: string): string {
  if (set === "as set" && written === "as written") return "kept";
  if (set === "as set" && written === "as set") return "the token's";
  if (set === written) return set;
  return `${set} / ${written === "as written" ? "kept" : written}`;
}

/** A Markdown table: a row for each event, a column for each platform. */
export function matrixTable(options: MiniOptions = {}): string {
  const columns = served.filter(([name]) => !(options.asLitebox && name === "direct"));
  const rows = [...EVENTS.keys()].map((event) => {
    const cells = columns.map(([name, bits]) => {
      if (event === "VTL switch" && name !== "lvbs") return "–";
      return wordOf(...cell(name, bits, event, options));
    });
    return `| ${event} | ${cells.join(" | ")} |`;
  });
  const head = columns.map(([name, bits]) => (bits === 32 ? `${name} (i386)` : name));
  return `| the base after | ${head.join(" | ")} |\n|${" --- |".repeat(columns.length + 1)}\n${rows.join("\n")}\n`;
}
