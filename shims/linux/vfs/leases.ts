/** Leases on files: whoever opens one in a way that conflicts waits until the holder has let go (fcntl(2), "Leases"; fs/locks.c). */
import { Errno } from "../errno.ts";
import type { Kernel } from "../task.ts";
import { WaitQueue } from "../wait.ts";
import { VfsError } from "./error.ts";
import type { FileInode } from "./inode.ts";
import { F_RDLCK, F_UNLCK, F_WRLCK } from "./locks.ts";
import type { RegularOpen } from "./open-file.ts";
import { Reason, signalOwner } from "./owner.ts";

interface Lease {
  readonly file: RegularOpen;
  readonly fd: number;
  type: number;
  /** What it is to become, and when it will whether the holder says so or not (virtual ns; Infinity for never). */
  breaking: { readonly to: number; readonly deadline: number } | undefined;
}

/** The leases of one file. */
export class Leases {
  /** Woken when one is given back or reduced. */
  readonly changed = new WaitQueue();
  #leases: Lease[] = [];

  /** F_GETLEASE: what the holder is to go down to counts already. */
  typeFor(file: RegularOpen): number {
    const own = this.#leases.find((lease) => lease.file === file);
    return own === undefined ? F_UNLCK : (own.breaking?.to ?? own.type);
  }

  /** F_SETLEASE, with F_RDLCK or F_WRLCK. @returns 0 or -EAGAIN */
  set(file: RegularOpen, fd: number, type: number): number {
    const { readers, writers } = file.file;
    if (type === F_RDLCK && writers > 0) return -Errno.EAGAIN;
    if (type === F_WRLCK) {
      const alone = file.writable ? writers === 1 && readers === 0 : writers === 0 && readers === 1;
      if (!alone) return -Errno.EAGAIN;
    }
    const others = this.#leases.filter((lease) => lease.file !== file);
    if (others.some(({ breaking }) => type === F_WRLCK || breaking?.to === F_UNLCK)) return -Errno.EAGAIN;
    const own = this.#leases.find((lease) => lease.file === file);
    if (own === undefined) this.#leases.push({ file, fd, type, breaking: undefined });
    else {
      own.type = type;
      if (type === F_RDLCK && own.breaking?.to === F_RDLCK) own.breaking = undefined;
      this.changed.wake();
    }
    return 0;
  }

  /** Gives a lease back. False when there is none. */
  drop(file: RegularOpen): boolean {
    const own = this.#leases.find((lease) => lease.file === file);
    if (own === undefined) return false;
    this.#remove(own);
    this.changed.wake();
    return true;
  }

  /** When the first of the leases that are being broken goes by itself; undefined when none does. */
  get deadline(): number | undefined {
    const times = this.#leases.map(({ breaking }) => breaking?.deadline ?? Number.POSITIVE_INFINITY);
    const first = Math.min(...times);
    return first === Number.POSITIVE_INFINITY ? undefined : first;
  }

  /** Tells the holders that somebody opens the file. @throws {LeaseBreak} while one of them has not let go */
  breakFor(kernel: Kernel, file: FileInode, writing: boolean): void {
    const now = kernel.clock.now();
    this.#expire(now);
    const conflicts = this.#leases.filter(({ type }) => writing || type === F_WRLCK);
    if (conflicts.length === 0) return;
    const seconds = kernel.settings.get("fs.lease-break-time");
    const deadline = seconds === 0 ? Number.POSITIVE_INFINITY : now + seconds * 1e9;
    const to = writing ? F_UNLCK : F_RDLCK;
    for (const lease of conflicts) {
      if (writing ? lease.breaking?.to === F_UNLCK : lease.breaking !== undefined) continue;
      lease.breaking = { to, deadline };
      signalOwner(kernel, lease.file, lease.fd, Reason.message);
    }
    throw new LeaseBreak(this, writing ? file : undefined);
  }

  /** With it goes who was to be told, and how. */
  #remove(lease: Lease): void {
    this.#leases = this.#leases.filter((one) => one !== lease);
    lease.file.owner = undefined;
    lease.file.ownerSignal = 0;
  }

  #expire(now: number): void {
    for (const lease of [...this.#leases]) {
      const { breaking } = lease;
      if (breaking === undefined || now < breaking.deadline) continue;
      if (breaking.to === F_UNLCK) this.#remove(lease);
      lease.type = breaking.to;
      lease.breaking = undefined;
    }
  }
}

/** EWOULDBLOCK where nobody waits. */
export class LeaseBreak extends VfsError {
  readonly leases: Leases;
  /** Who waits to write counts as a writer already. */
  readonly written: FileInode | undefined;

  constructor(leases: Leases, written: FileInode | undefined) {
    super(Errno.EAGAIN, "a lease on the file is being broken");
    this.leases = leases;
    this.written = written;
  }
}
