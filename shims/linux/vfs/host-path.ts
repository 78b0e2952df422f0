import fs from "node:fs";
import { Errno } from "../errno.ts";
import { fail, onHost } from "./error.ts";
import { O_NOFOLLOW, O_PATH } from "./flags.ts";
import type { Entry, FileSystem } from "./inode.ts";
import type { Stamp } from "./stamp.ts";

/** A file of the host, whatever its path is at the moment. */
export interface HostIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/**
 * A host path from guest names. Names are byte strings (one character per byte); plain ASCII goes as it is, the rest as bytes.
 */
export function hostPath(path: string): string | Buffer {
  for (let index = 0; index < path.length; index++)
    if (path.charCodeAt(index) > 127) return Buffer.from(path, "latin1");
  return path;
}

/** A path or name of the host as a byte string. */
export function guestBytes(path: string): string {
  return Buffer.from(path, "utf8").toString("latin1");
}

/** lstat(2) on the host; undefined when there is no such file. */
export function hostLstat(path: string): fs.BigIntStats | undefined {
  return onHost(() => fs.lstatSync(hostPath(path), { bigint: true, throwIfNoEntry: false }));
}

export function setStamp(stamp: Stamp, ns: bigint): void {
  stamp.set(Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n));
}

/** Names in a directory of the host, as byte strings in byte order. */
export function hostNames(path: string): string[] {
  return onHost(() => fs.readdirSync(hostPath(path), { encoding: "latin1" })).sort();
}

/**
 * Opens a file of the host and makes sure that it is the one that was looked up: a path whose directories somebody swapped
 * meanwhile leads to another file, and that is refused.
 */
export function openVerified(path: string, flags: number, identity: HostIdentity): number {
  const fd = onHost(() => fs.openSync(hostPath(path), flags | O_NOFOLLOW | fs.constants.O_NONBLOCK));
  const stat = fs.fstatSync(fd, { bigint: true });
  if (stat.dev === identity.dev && stat.ino === identity.ino) return fd;
  fs.closeSync(fd);
  return fail(Errno.ESTALE, "the host changed the file behind our back");
}

const linuxHost = process.platform === "linux";

/**
 * Runs `use` with a path that stands for exactly the file with this identity, as the `*at` calls would: on Linux a handle in
 * /proc/self/fd, which no rename or symbolic link can redirect. Elsewhere the path itself.
 */
export function withHandle<T>(path: string, identity: HostIdentity, use: (path: string) => T): T {
  if (!linuxHost) return onHost(() => use(path));
  const fd = openVerified(path, O_PATH, identity);
  try {
    return onHost(() => use(`/proc/self/fd/${fd}`));
  } finally {
    fs.closeSync(fd);
  }
}

/** Path on the host of an entry in a bound tree whose root is `rootPath`. */
export function boundPath(entry: Entry, fileSystem: FileSystem, rootPath: string): string {
  const names: string[] = [];
  for (let at = entry; at.parent && !at.covers && at.inode.fs === fileSystem; at = at.parent) names.push(at.name);
  return names.length === 0 ? rootPath : `${rootPath}/${names.reverse().join("/")}`;
}

/** What Node's utimes takes. It cuts to whole microseconds; half of one keeps the rounding of a double from taking another. */
export function hostSeconds(stamp: Stamp): number {
  return stamp.sec + (Math.floor(stamp.nsec / 1000) + 0.5) / 1e6;
}
