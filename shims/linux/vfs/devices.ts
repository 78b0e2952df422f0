import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Task } from "../task.ts";
import { S_IFCHR } from "./flags.ts";
import type { Entry, FileSystem } from "./inode.ts";
import { OpenFile } from "./open-file.ts";

/** The kernel's encoding of a device number in st_rdev (linux/kdev_t.h, new_encode_dev). */
export function makeDevice(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

export function majorOf(device: number): number {
  return (device >>> 8) & 0xfff;
}

export function minorOf(device: number): number {
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}

/** Memory devices, major 1 (Documentation/admin-guide/devices.txt). */
export const Minor = { null: 3, zero: 5, full: 7, random: 8, urandom: 9 } as const;
export const MEMORY_MAJOR = 1;
/** 5:0, the controlling terminal. */
export const TTY_DEVICE = makeDevice(5, 0);
export const CONSOLE_DEVICE = makeDevice(5, 1);
export const PTMX_DEVICE = makeDevice(5, 2);

/** A character device without an offset that counts. Unknown numbers are not opened at all (ENXIO). */
abstract class CharacterDevice extends OpenFile {
  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  override pread(into: Uint8Array): number {
    return this.read(into);
  }

  override pwrite(from: Uint8Array): number {
    return this.write(from);
  }

  override get seekable(): boolean {
    return true;
  }

  /** null_lseek: any seek ends at 0. */
  override seek(): number {
    this.position = 0;
    return 0;
  }
}

class NullDevice extends CharacterDevice {
  read(): number {
    return 0;
  }

  write(from: Uint8Array): number {
    return from.length;
  }
}

class ZeroDevice extends CharacterDevice {
  read(into: Uint8Array): number {
    into.fill(0);
    return into.length;
  }

  write(from: Uint8Array): number {
    return from.length;
  }
}

class FullDevice extends ZeroDevice {
  override write(from: Uint8Array): number {
    return from.length === 0 ? 0 : -Errno.ENOSPC;
  }
}

/** Requests of random(4): how many bits there are, and what only root may change. */
const RNDGETENTCNT = 0x8004_5200;
const RND_CHANGES: readonly number[] = [0x4004_5201, 0x4008_5203, 0x5204, 0x5206, 0x5207];
const ENTROPY_BITS = 256;

class RandomDevice extends CharacterDevice {
  override ioctl(task: Task, request: number, argument: number): number | undefined {
    if (request === RNDGETENTCNT) {
      task.memory.setU32(argument, ENTROPY_BITS);
      return 0;
    }
    if (!RND_CHANGES.includes(request)) return task.fail(Errno.EINVAL, "no request of random(4)");
    if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN)) return task.fail(Errno.EPERM, "needs CAP_SYS_ADMIN");
    // There is always enough, and it comes from the seed.
    return 0;
  }

  read(into: Uint8Array): number {
    this.inode.fs.host.randomBytes(into);
    return into.length;
  }

  write(from: Uint8Array): number {
    return from.length;
  }

  override seek(): number {
    return 0;
  }
}

/** /dev/tty where the host's terminal is not behind it: calls/open.ts puts the session's own in its place. */
export class OwnTerminal extends OpenFile {
  read(): number {
    return -Errno.ENXIO;
  }

  write(): number {
    return -Errno.ENXIO;
  }
}

/** Opens a device of ours by its number; undefined when there is no such device. The host's are never opened. */
export function openDevice(entry: Entry, flags: number): OpenFile | undefined {
  const { inode } = entry;
  if (inode.kind !== S_IFCHR || majorOf(inode.rdev) !== MEMORY_MAJOR) return undefined;
  switch (minorOf(inode.rdev)) {
    case Minor.null:
      return new NullDevice(entry, flags);
    case Minor.zero:
      return new ZeroDevice(entry, flags);
    case Minor.full:
      return new FullDevice(entry, flags);
    case Minor.random:
    case Minor.urandom:
      return new RandomDevice(entry, flags);
    default:
      return undefined;
  }
}

/** True for /dev/zero, whose mapping is anonymous memory. */
export function isZeroDevice(fileSystem: FileSystem, rdev: number, kind: number): boolean {
  return fileSystem.type !== "proc" && kind === S_IFCHR && rdev === makeDevice(MEMORY_MAJOR, Minor.zero);
}
