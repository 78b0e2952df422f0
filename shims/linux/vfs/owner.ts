/** Who is told by a signal what happens on an open file: F_SETOWN, F_SETSIG (fcntl(2), "Managing signals"; fs/fcntl.c, send_sigio). */
import { Errno } from "../errno.ts";
import { SiCode, Signal } from "../signals/numbers.ts";
import { sendToProcess, sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Kernel, Process, Task } from "../task.ts";
import { Wait, type WaitQueue } from "../wait.ts";
import { O_ASYNC, POLLERR, POLLHUP, POLLIN, POLLOUT } from "./flags.ts";
import type { OpenFile } from "./open-file.ts";

/** Signals whose si_code has meanings of its own (SIG_SPECIFIC_SICODES_MASK), SIGIO apart. */
const SPECIFIC: readonly number[] = [4, 5, 7, 8, 11, 17, 31];

/** si_code of SIGIO, and the poll bits that go with it (band_table). */
export const Reason = {
  input: { code: 1, band: 0x41 },
  output: { code: 2, band: 0x304 },
  message: { code: 3, band: 0x441 },
  hangUp: { code: 6, band: 0x18 },
} as const;
type Reason = (typeof Reason)[keyof typeof Reason];

/** F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP. */
export const OwnerKind = { thread: 0, process: 1, group: 2 } as const;
type OwnerKind = (typeof OwnerKind)[keyof typeof OwnerKind];

export interface FileOwner {
  readonly kind: OwnerKind;
  readonly id: number;
  /** Of who said so: the signal comes in their name. */
  readonly uid: number;
  readonly euid: number;
}

export function ownerFor(task: Task, kind: OwnerKind, id: number): FileOwner {
  const { ruid, euid } = task.process.cred;
  return { kind, id, uid: ruid, euid };
}

/** ESRCH where nobody has that number, 0 for nobody. */
export function setOwner(task: Task, file: OpenFile, kind: OwnerKind, id: number): number {
  const { kernel } = task;
  if (id !== 0) {
    const there =
      kind === OwnerKind.group
        ? [...kernel.processes.values()].some(({ pgid }) => pgid === id)
        : kernel.tasks.has(id) || (kind === OwnerKind.process && kernel.processes.has(id));
    if (!there) return task.fail(Errno.ESRCH, "nobody has that number");
  }
  file.owner = id === 0 ? undefined : ownerFor(task, kind, id);
  return 0;
}

/** Tells the owner of a file, which has it at `fd`. */
export function signalOwner(kernel: Kernel, file: OpenFile, fd: number, reason: Reason): void {
  const { owner, ownerSignal } = file;
  if (owner === undefined) return;
  const send = (process: Process, task?: Task): void => {
    const { cred } = process;
    const may = owner.euid === 0 || [owner.uid, owner.euid].some((uid) => uid === cred.suid || uid === cred.ruid);
    if (!may) return;
    const deliver = (info: SigInfo): number => (task ? sendToTask(task, info) : sendToProcess(process, info));
    const code = SPECIFIC.includes(ownerSignal) ? SiCode.SI_SIGIO : reason.code;
    if (ownerSignal !== 0 && deliver(SigInfo.io(ownerSignal, code, reason.band, fd)) === 0) return;
    // Where the queue is full a plain SIGIO says that something was lost.
    deliver(SigInfo.sent(Signal.SIGIO, SiCode.SI_KERNEL, 0, 0));
  };
  if (owner.kind === OwnerKind.group) {
    for (const process of kernel.processes.values()) if (process.pgid === owner.id && !process.ended) send(process);
    return;
  }
  const task = kernel.tasks.get(owner.id);
  const process = kernel.processes.get(owner.id);
  if (owner.kind === OwnerKind.thread) {
    if (task !== undefined) send(task.process, task);
  } else if (process !== undefined && !process.ended) send(process);
}

/** O_ASYNC on a file that can wait: each time something arrives or there is room again, the owner is told (kill_fasync). */
export class AsyncNotice {
  readonly #listeners: Wait[] = [];
  readonly #kernel: Kernel;
  readonly #file: OpenFile;
  readonly #fd: number;
  #writable: boolean;

  constructor(kernel: Kernel, file: OpenFile, fd: number) {
    this.#kernel = kernel;
    this.#file = file;
    this.#fd = fd;
    this.#writable = (file.poll() & POLLOUT) !== 0;
    this.#listen(file.readQueue, () => this.#readable());
    this.#listen(file.writeQueue, () => this.#roomy());
  }

  #listen(queue: WaitQueue | undefined, told: () => void): void {
    if (queue === undefined) return;
    const listener = new Wait({ queues: [queue], attempt: () => undefined });
    listener.begin(told);
    this.#listeners.push(listener);
  }

  #readable(): void {
    const events = this.#file.readable ? this.#file.poll() : 0;
    if (events & (POLLIN | POLLERR)) signalOwner(this.#kernel, this.#file, this.#fd, Reason.input);
    else if (events & POLLHUP) signalOwner(this.#kernel, this.#file, this.#fd, Reason.hangUp);
  }

  /** Once there was none. */
  #roomy(): void {
    const writable = this.#file.writable && (this.#file.poll() & POLLOUT) !== 0;
    const told = writable && (!this.#writable || !this.#file.readable);
    this.#writable = writable;
    if (told) signalOwner(this.#kernel, this.#file, this.#fd, Reason.output);
  }

  stop(): void {
    for (const listener of this.#listeners) listener.end();
  }
}

/** F_SETFL and FIOASYNC: O_ASYNC is switched on or off as `flags` say. */
export function setAsync(kernel: Kernel, file: OpenFile, fd: number, flags: number): void {
  const on = (flags & O_ASYNC) !== 0;
  const never = file.readQueue === undefined && file.writeQueue === undefined;
  if (never || on === ((file.flags & O_ASYNC) !== 0)) return;
  file.flags ^= O_ASYNC;
  file.asyncNotice?.stop();
  file.asyncNotice = on ? new AsyncNotice(kernel, file, fd) : undefined;
}
