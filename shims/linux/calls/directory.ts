/** Listing directories: getdents64 and getdents. */
import { Errno } from "../errno.ts";
import { fd, pointer, uint } from "../kinds/kinds.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { S_IFMT } from "../vfs/flags.ts";
import type { Inode } from "../vfs/inode.ts";
import { DirectoryOpen } from "../vfs/open-file.ts";
import { parentOf } from "../vfs/walk.ts";
import { IN_ACCESS, report } from "../vfs/watch.ts";

/** At most so much is filled at a time. */
const LIMIT = 65536;

/** Writes one entry at `at`. @returns its length, or 0 when it does not fit */
type Writer = (view: DataView, at: number, inode: Inode, next: number, name: string) => number;

function nameBytes(view: DataView, at: number, name: string): void {
  for (let index = 0; index < name.length; index++) view.setUint8(at + index, name.charCodeAt(index));
}

function align(length: number, to: number): number {
  return Math.ceil(length / to) * to;
}

/** struct linux_dirent64. */
const dirent64: Writer = (view, at, inode, next, name) => {
  const length = align(19 + name.length + 1, 8);
  if (at + length > view.byteLength) return 0;
  view.setBigUint64(at, BigInt(inode.ino), true);
  view.setBigUint64(at + 8, BigInt(next), true);
  view.setUint16(at + 16, length, true);
  view.setUint8(at + 18, (inode.mode & S_IFMT) >> 12);
  nameBytes(view, at + 19, name);
  return length;
};

/** struct linux_dirent with words of the ABI; the type is its last byte. */
function direntOf(word: 4 | 8): Writer {
  const header = 2 * word + 2;
  return (view, at, inode, next, name) => {
    const length = align(header + name.length + 2, word);
    if (at + length > view.byteLength) return 0;
    view.setUint32(at, inode.ino, true);
    view.setUint32(at + word, next, true);
    view.setUint16(at + 2 * word, length, true);
    nameBytes(view, at + header, name);
    view.setUint8(at + length - 1, (inode.mode & S_IFMT) >> 12);
    return length;
  };
}

const dirent8 = direntOf(8);
const dirent4 = direntOf(4);

function list(task: Task, descriptor: number, buffer: number, bytes: number, writer: Writer): number {
  const file = openFileOf(task, descriptor);
  if (!(file instanceof DirectoryOpen)) return fail(Errno.ENOTDIR, "no directory");
  const view = new DataView(new ArrayBuffer(Math.min(bytes, LIMIT)));
  let [filled, index] = [0, file.position];
  for (; ; index++) {
    const isDot = index < 2;
    const found = file.at(isDot ? 0 : index - 2);
    if (!isDot && found === undefined) break;
    if (!isDot && found === null) continue;
    const here = index === 0 ? file.entry : index === 1 ? parentOf(file.entry, task.process.fs.root) : found;
    if (!here) continue;
    const name = index === 0 ? "." : index === 1 ? ".." : here.name;
    const length = writer(view, filled, here.inode, index + 1, name);
    if (length === 0) {
      if (filled === 0) fail(Errno.EINVAL, "the buffer is too small for one entry");
      break;
    }
    filled += length;
  }
  task.memory.write(buffer, new Uint8Array(view.buffer, 0, filled));
  file.position = index;
  report(file.entry, IN_ACCESS);
  return filled;
}

const getdents64 = fileCall((task, descriptor, buffer, bytes) => list(task, descriptor, buffer, bytes, dirent64));
const getdents = fileCall((task, descriptor, buffer, bytes) =>
  list(task, descriptor, buffer, bytes, task.abi.word === 8 ? dirent8 : dirent4),
);

const o = { family: "file" } as const;

export const directoryCalls: readonly Row[] = [
  row("getdents", { x86_64: 78, i386: 141 }, [fd, pointer, uint], getdents, o),
  row("getdents64", { x86_64: 217, i386: 220 }, [fd, pointer, uint], getdents64, o),
];
