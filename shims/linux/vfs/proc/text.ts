import type { Region } from "../../../../emulator/memory.ts";
import type { Mm } from "../../memory/mm.ts";
import type { Entry, FileSystem } from "../inode.ts";
import type { Vfs } from "../vfs.ts";
import { isBelow, pathOf } from "../walk.ts";

const [PROT_READ, PROT_WRITE, PROT_EXEC] = [1, 2, 4];

/** /proc/pid/maps (fs/proc/task_mmu.c): the name starts in column 73 (49 for a 32-bit kernel's pointers: not here). */
export function mapsText(mm: Mm): string {
  let text = "";
  for (const region of mappings(mm)) text += mapLine(region);
  return text;
}

/** What is mapped, as Linux has it in its list: what is locked or sealed is a mapping of its own. */
function* mappings({ space, locks, seals, unread }: Mm): Generator<Region> {
  for (const region of space.regions()) {
    let { start } = region;
    const edges = [locks, seals, unread].flatMap((ranges) => ranges.edges(start, region.end)).sort((a, b) => a - b);
    for (const end of [...edges, region.end]) {
      const prot = unread.within(start, end) > 0 ? region.prot & ~PROT_READ : region.prot;
      if (end > start) yield { ...region, start, end, prot, offset: region.offset + start - region.start };
      start = end;
    }
  }
}

function mapLine({ start, end, prot, shared, backing, offset }: Region): string {
  const address = (value: number) => value.toString(16).padStart(8, "0");
  const rights = `${prot & PROT_READ ? "r" : "-"}${prot & PROT_WRITE ? "w" : "-"}${prot & PROT_EXEC ? "x" : "-"}${shared ? "s" : "p"}`;
  const ofFile = backing !== undefined && backing.ino !== 0;
  const device = `00:${(ofFile ? backing.dev : 0).toString(16).padStart(2, "0")}`;
  const line = `${address(start)}-${address(end)} ${rights} ${address(ofFile ? offset : 0)} ${device} ${ofFile ? backing.ino : 0} `;
  const name = backing?.name ?? "";
  return name === "" ? `${line}\n` : `${line.padEnd(73)}${name}\n`;
}

/** /proc/pid/smaps: what of each mapping is there, counted page by page. */
export function smapsText(mm: Mm): string {
  const { space, locks } = mm;
  let text = "";
  for (const region of mappings(mm)) {
    const { start, end, prot, shared } = region;
    let resident = 0;
    for (let at = start; at < end; at += 4096) if (space.isResident(at)) resident += 4;
    const line = (name: string, kib: number): string => `${`${name}:`.padEnd(16)}${String(kib).padStart(8)} kB\n`;
    const locked = locks.within(start, end) > 0;
    const dirty = (prot & PROT_WRITE) === 0 ? 0 : resident;
    text += mapLine(region);
    for (const [name, kib] of [
      ["Size", (end - start) / 1024],
      ["KernelPageSize", 4],
      ["MMUPageSize", 4],
      ["Rss", resident],
      ["Pss", resident],
      ["Shared_Clean", shared ? resident - dirty : 0],
      ["Shared_Dirty", shared ? dirty : 0],
      ["Private_Clean", shared ? 0 : resident - dirty],
      ["Private_Dirty", shared ? 0 : dirty],
      ["Referenced", resident],
      ["Anonymous", region.backing?.frame === undefined ? resident : 0],
      ["AnonHugePages", 0],
      ["Swap", 0],
      ["Locked", locked ? resident : 0],
    ] as const)
      text += line(name, kib);
    const flags = [prot & PROT_READ && "rd", prot & PROT_WRITE && "wr", prot & PROT_EXEC && "ex", shared && "sh"];
    text += `VmFlags: ${[...flags.filter((flag) => typeof flag === "string"), "mr", "mw", "me", ...(locked ? ["lo"] : [])].join(" ")}\n`;
  }
  return text;
}

/** /proc/pid/smaps_rollup: the sums. */
export function rollupText({ space, locks }: Mm): string {
  let [resident, dirty, anonymous, locked, first, last] = [0, 0, 0, 0, Number.POSITIVE_INFINITY, 0];
  for (const { start, end, prot, backing } of space.regions()) {
    let here = 0;
    for (let at = start; at < end; at += 4096) if (space.isResident(at)) here += 4;
    resident += here;
    if (locks.within(start, end) > 0) locked += here;
    if (prot & PROT_WRITE) dirty += here;
    if (backing?.frame === undefined) anonymous += here;
    first = Math.min(first, start);
    last = end;
  }
  if (last === 0) return "";
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  const title = `${hex(first)}-${hex(last)} ---p 00000000 00:00 0 `.padEnd(73);
  const lines = [
    ["Rss", resident],
    ["Pss", resident],
    ["Pss_Dirty", dirty],
    ["Pss_Anon", anonymous],
    ["Pss_File", resident - anonymous],
    ["Pss_Shmem", 0],
    ["Shared_Clean", 0],
    ["Shared_Dirty", 0],
    ["Private_Clean", resident - dirty],
    ["Private_Dirty", dirty],
    ["Referenced", resident],
    ["Anonymous", anonymous],
    ["Swap", 0],
    ["SwapPss", 0],
    ["Locked", locked],
  ] as const;
  const text = lines.map(([name, kib]) => `${`${name}:`.padEnd(16)}${String(kib).padStart(8)} kB\n`).join("");
  return `${title}[rollup]\n${text}`;
}

interface Mount {
  readonly fs: FileSystem;
  readonly path: string;
  readonly source: string;
  readonly options: string;
}

function eachMount(vfs: Vfs, root: Entry): Mount[] {
  const escaped = (text: string): string => text.replace(/[ \t\n\\]/g, octal);
  return vfs.mounts
    .filter((entry) => isBelow(entry, root))
    .map((entry) => {
      const { fs } = entry.inode;
      const options = fs.readonly ? "ro" : "rw";
      return { fs, path: escaped(pathOf(entry, root)), source: escaped(fs.source), options };
    });
}

function octal(character: string): string {
  return `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
}

/** /proc/mounts, as fstab(5). */
export function mountsText(vfs: Vfs, root: Entry): string {
  return eachMount(vfs, root)
    .map(({ fs, path, source, options }) => `${source} ${path} ${fs.type} ${options},relatime 0 0\n`)
    .join("");
}

/** proc_pid_mountinfo(5). */
export function mountInfoText(vfs: Vfs, root: Entry): string {
  return eachMount(vfs, root)
    .map(
      ({ fs, path, source, options }) =>
        `${fs.dev} ${vfs.root.inode.fs.dev} 0:${fs.dev} / ${path} ${options},relatime - ${fs.type} ${source} ${options}\n`,
    )
    .join("");
}
