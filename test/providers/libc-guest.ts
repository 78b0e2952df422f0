import { type Bits, DATA } from "../emulator/guest.ts";
import { Call, call, type MiniOptions, type MiniRun, runMini } from "./mini-shim.ts";

/** Blocks of the first thread, of a second one, and of the program after exec. */
const BLOCKS = [DATA, DATA + 0x400, DATA + 0x1000] as const;
const DESC = DATA + 0x1800;
const CANARY = 0x5a17c0de;

/**
 * A guest that uses TLS as a C library's programs do: a self-pointer and a canary in each block, looked at after every event.
 * Where something is wrong it reports 0xbad and ends.
 */
function libcGuest(bits: Bits): string {
  const wide = bits === 64;
  const arg = wide ? "rdi" : "ebx";
  const second = wide ? "esi" : "ecx";
  const at = (label: string): string =>
    wide ? `lea rdi, [rip + ${label}]\n` : `call 8f\n8: pop ebx\nadd ebx, ${label}-8b\n`;
  const fill = BLOCKS.map(
    (block) => `mov eax, ${block}
mov dword ptr [eax], ${block}
mov dword ptr [eax+${wide ? 0x10 : 8}], ${block}
mov dword ptr [eax+${wide ? 0x28 : 0x14}], ${CANARY}
`,
  ).join("");
  const self = wide ? "xor eax, eax\nmov eax, dword ptr fs:[rax]\n" : "xor eax, eax\nmov eax, dword ptr gs:[eax]\n";
  const canary = wide ? "mov eax, 0x28\nmov eax, dword ptr fs:[rax]\n" : "mov eax, 0x14\nmov eax, dword ptr gs:[eax]\n";
  const look = (block: number): string => `${self}cmp eax, ${block}\njne bad\n${canary}cmp eax, ${CANARY}\njne bad\n`;
  const set = (block: number): string =>
    wide
      ? `mov edi, ${block}\n${call(64, Call.setFsBase)}test eax, eax\njnz bad\n`
      : `${describe(block, "-1")}${call(32, Call.setThreadArea, "edx")}test eax, eax\njnz bad
mov eax, dword ptr [edx]
lea eax, [eax*8+3]
mov gs, ax
`;
  const describe = (block: number, entry: string): string => `mov edx, ${DESC}
mov dword ptr [edx], ${entry}
mov dword ptr [edx+4], ${block}
mov dword ptr [edx+8], 0xfffff
mov dword ptr [edx+12], 0x51
`;
  // The child's descriptor goes to the entry that its copied selector names, as glibc has it.
  const childTls = wide
    ? `mov esi, ${BLOCKS[1]}\n`
    : `mov eax, gs\nshr eax, 3\n${describe(BLOCKS[1], "eax")}mov ecx, ${DESC}\n`;
  const nothing = call(bits, Call.nothing);
  const base = wide ? `${call(64, Call.getFsBase)}cmp eax, ${BLOCKS[0]}\njne bad\n` : "";
  return `${fill}${set(BLOCKS[0])}${look(BLOCKS[0])}${nothing}${look(BLOCKS[0])}${base}${look(BLOCKS[0])}
ud2
${look(BLOCKS[0])}
${call(bits, Call.interrupt)}
jmp 1f
1: nop
jmp 2f
2:
${look(BLOCKS[0])}
${call(bits, Call.reschedule)}
jmp 1f
1: nop
jmp 2f
2:
${look(BLOCKS[0])}
${childTls}${at("child")}${call(bits, Call.spawn)}
${look(BLOCKS[0])}
${call(bits, Call.yield)}
${look(BLOCKS[0])}
${call(bits, Call.yield)}
${look(BLOCKS[0])}
${at("handler")}${call(bits, Call.signal)}
${look(BLOCKS[0])}
${nothing}
${look(BLOCKS[0])}
${at("program")}${call(bits, Call.exec)}
child:
${look(BLOCKS[1])}
${call(bits, Call.yield)}
${look(BLOCKS[1])}
${nothing}
${look(BLOCKS[1])}
${call(bits, Call.report, "", "").replace("mov eax", `mov ${arg}, 0xc1\nmov eax`)}
${call(bits, Call.exit)}
handler:
${look(BLOCKS[0])}
${call(bits, Call.sigreturn)}
program:
${set(BLOCKS[2])}${look(BLOCKS[2])}
xor ${second}, ${second}
mov ${arg}, 0x600d
${call(bits, Call.report)}
${call(bits, Call.exit)}
bad:
mov ${arg}, 0xbad
${call(bits, Call.report)}
${call(bits, Call.exit)}
`;
}

export const clean = { reports: [0xc1n, 0x600dn], end: "exit" } as const;

export function runLibc(bits: Bits, options: MiniOptions = {}): MiniRun {
  return runMini(bits, libcGuest(bits), options);
}

/** How a fault showed, in a word each: how the guest ended, what it noticed itself, and what was found. */
export function symptoms({ end, reports, findings }: MiniRun): string[] {
  const list: string[] = [];
  if (end !== clean.end) list.push(end.startsWith("panic") ? "panic" : end);
  if (reports.includes(0xbadn)) list.push("guest");
  else if (end === clean.end && reports.join() !== clean.reports.join()) list.push("other answers");
  return [...list, ...new Set(findings.map(({ kind }) => kind))];
}
