import type { AddressSpace } from "../../../emulator/memory.ts";
import type { Entry } from "./inode.ts";
import type { Vfs } from "./vfs.ts";
import { isBelow, pathOf } from "./walk.ts";

const [PROT_READ, PROT_WRITE, PROT_EXEC] = [1, 2, 4];

/** /proc/pid/maps (fs/proc/task_mmu.c): the name starts in column 73 (49 for a 32-bit kernel's pointers: not here). */
export function mapsText(space: AddressSpace): string {
  let text = "";
  for (const { start, end, prot, shared, backing, offset } of space.regions()) {
    const address = (value: number) => value.toString(16).padStart(8, "0");
    const rights = `${prot & PROT_READ ? "r" : "-"}${prot & PROT_WRITE ? "w" : "-"}${prot & PROT_EXEC ? "x" : "-"}${shared ? "s" : "p"}`;
    const ofFile = backing !== undefined && backing.ino !== 0;
    const device = `00:${(ofFile ? backing.dev : 0).toString(16).padStart(2, "0")}`;
    const line = `${address(start)}-${address(end)} ${rights} ${address(ofFile ? offset : 0)} ${device} ${ofFile ? backing.ino : 0} `;
    const name = backing?.name ?? "";
    text += name === "" ? `${line}\n` : `${line.padEnd(73)}${name}\n`;
  }
  return text;
}

/** Pages mapped. */
export function sizePages(space: AddressSpace): number {
  let bytes = 0;
  for (const { start, end } of space.regions()) bytes += end - start;
  return bytes / 4096;
}

/** Pages that count as resident: private ones that may be written, and the rest by a quarter. No page table is walked for it. */
export function residentPages(space: AddressSpace): number {
  let bytes = 0;
  for (const { start, end, prot } of space.regions()) bytes += prot === 0 ? 0 : Math.min(end - start, 1 << 20);
  return Math.ceil(bytes / 4096);
}

function eachMount(vfs: Vfs, root: Entry): { entry: Entry; path: string; type: string }[] {
  return vfs.mounts
    .filter((entry) => isBelow(entry, root))
    .map((entry) => ({ entry, path: pathOf(entry, root).replace(/[ \t\n\\]/g, octal), type: entry.inode.fs.type }));
}

function octal(character: string): string {
  return `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
}

/** /proc/mounts, as fstab(5). */
export function mountsText(vfs: Vfs, root: Entry): string {
  return eachMount(vfs, root)
    .map(({ path, type }) => `${type} ${path} ${type} rw,relatime 0 0\n`)
    .join("");
}

/** proc_pid_mountinfo(5). */
export function mountInfoText(vfs: Vfs, root: Entry): string {
  return eachMount(vfs, root)
    .map(
      ({ entry, path, type }, index) =>
        `${20 + index} 20 0:${entry.inode.fs.dev} / ${path} rw,relatime - ${type} ${type} rw\n`,
    )
    .join("");
}
