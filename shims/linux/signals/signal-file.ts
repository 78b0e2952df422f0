/** signalfd(2): signals read as records from a descriptor (fs/signalfd.c). */
import { Errno } from "../errno.ts";
import type { Kernel } from "../task.ts";
import { O_RDWR, POLLIN, POLLRDNORM } from "../vfs/flags.ts";
import type { Entry } from "../vfs/inode.ts";
import { OpenFile } from "../vfs/open-file.ts";
import type { WaitQueue } from "../wait.ts";
import { recalculate } from "./send.ts";
import type { SigInfo } from "./siginfo.ts";
import type { SignalSet } from "./signal-set.ts";
import { pendingFor, takeSignal } from "./take.ts";

/** `struct signalfd_siginfo`. */
const RECORD_BYTES = 128;

function record(info: SigInfo): Uint8Array {
  const bytes = new Uint8Array(RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, info.signal, true);
  view.setInt32(4, info.errno, true);
  view.setInt32(8, info.code, true);
  switch (info.layout) {
    case "timer":
      view.setUint32(24, info.pid, true);
      view.setUint32(32, info.overrun, true);
      break;
    case "poll":
      view.setUint32(28, Number(info.word(16) & 0xffff_ffffn), true);
      view.setInt32(20, info.int(24), true);
      return bytes;
    case "fault":
    case "bounds":
    case "key":
    case "mceerr":
    case "trapno":
      view.setBigUint64(72, info.word(16), true);
      return bytes;
    default:
      view.setUint32(12, info.pid, true);
      view.setUint32(16, info.uid, true);
  }
  if (info.layout === "child") {
    view.setInt32(40, info.status, true);
    view.setBigUint64(56, info.word(32), true);
    view.setBigUint64(64, info.word(40), true);
  }
  if (info.layout === "queue" || info.layout === "timer") {
    view.setBigUint64(48, info.value, true);
    view.setInt32(44, info.int(24), true);
  }
  return bytes;
}

/** Gives whoever reads it that reader's own pending signals, and those of its process. */
export class SignalFile extends OpenFile {
  mask: SignalSet;
  readonly #kernel: Kernel;
  readonly #arrivals: WaitQueue;

  constructor(entry: Entry, flags: number, kernel: Kernel, arrivals: WaitQueue, mask: SignalSet) {
    super(entry, O_RDWR | flags);
    this.#kernel = kernel;
    this.#arrivals = arrivals;
    this.mask = mask;
  }

  override get readQueue(): WaitQueue {
    return this.#arrivals;
  }

  read(into: Uint8Array): number {
    const task = this.#kernel.current;
    const room = Math.floor(into.length / RECORD_BYTES);
    if (room === 0 || task === undefined) return -Errno.EINVAL;
    const others = this.mask.inverse();
    let done = 0;
    for (; done < room; done++) {
      const info = takeSignal(task, others);
      if (info === undefined) break;
      into.set(record(info), done * RECORD_BYTES);
    }
    if (done === 0) return -Errno.EAGAIN;
    recalculate(task);
    return done * RECORD_BYTES;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  override poll(): number {
    const task = this.#kernel.current;
    if (task === undefined || pendingFor(task).intersection(this.mask).isEmpty) return 0;
    return POLLIN | POLLRDNORM;
  }
}
