/** What the machine and the kernel say of themselves: uname, sysinfo, random bytes. */

import { Errno } from "../errno.ts";
import { getrandomFlags } from "../kinds/flags.ts";
import { int, size } from "../kinds/kinds.ts";
import { bufferOut, string } from "../kinds/memory.ts";
import { array, long, struct, structOut, text, u16, u32, ulong } from "../kinds/structs.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { KERNEL_RELEASE, KERNEL_VERSION } from "../vfs/proc/sysctl.ts";

const FIELD = 65;
const OLD_FIELD = 9;
const SYSNAME = "Linux";
const PER_LINUX32 = 8;
const PER_MASK = 0xff;
const UNAME26 = 0x0020_0000;
const GRND_RANDOM = 2;
const GRND_INSECURE = 4;
/** Random bytes are made in pieces of this size. */
const CHUNK = 65536;
/** A call gives at most this many (MAX_RW_COUNT of the 32-bit kind). */
const MAX_BYTES = 0x7fff_f000;
const HOST_NAME_MAX = 64;

const utsname = struct(
  {
    sysname: text(FIELD),
    nodename: text(FIELD),
    release: text(FIELD),
    version: text(FIELD),
    machine: text(FIELD),
    domainname: text(FIELD),
  },
  ["sysname", "nodename"],
);
const oldUtsname = struct(
  { sysname: text(FIELD), nodename: text(FIELD), release: text(FIELD), version: text(FIELD), machine: text(FIELD) },
  ["sysname", "nodename"],
);
const oldestUtsname = struct(
  {
    sysname: text(OLD_FIELD),
    nodename: text(OLD_FIELD),
    release: text(OLD_FIELD),
    version: text(OLD_FIELD),
    machine: text(OLD_FIELD),
  },
  ["sysname", "nodename"],
);

/** struct sysinfo; the tail pads the 32-bit form to 64 bytes. */
const sysinfoStruct = struct({
  uptime: long,
  loads: array(ulong, 3),
  totalram: ulong,
  freeram: ulong,
  sharedram: ulong,
  bufferram: ulong,
  totalswap: ulong,
  freeswap: ulong,
  procs: u16,
  totalhigh: ulong,
  freehigh: ulong,
  mem_unit: u32,
});

function names(task: Task) {
  const { uts } = task.namespaces;
  const { personality } = task.process;
  return {
    sysname: SYSNAME,
    nodename: uts.hostname,
    release: (personality & UNAME26) !== 0 ? "2.6.72" : KERNEL_RELEASE,
    version: KERNEL_VERSION,
    machine: (personality & PER_MASK) === PER_LINUX32 ? "i686" : "x86_64",
    domainname: uts.domainname,
  };
}

function uname(task: Task, to: number): number {
  utsname.write(task.memory, to, names(task), task.abi);
  return 0;
}

function olduname(task: Task, to: number): number {
  oldUtsname.write(task.memory, to, names(task), task.abi);
  return 0;
}

function oldolduname(task: Task, to: number): number {
  if (to === 0) return task.fail(Errno.EFAULT, "no buffer");
  oldestUtsname.write(task.memory, to, names(task), task.abi);
  return 0;
}

function setName(field: "hostname" | "domainname"): (task: Task, name: number, length: number) => number {
  return (task, name, length) => {
    if (!task.cred.capableIn(task.namespaces.uts.owner, Cap.CAP_SYS_ADMIN))
      return task.fail(Errno.EPERM, "for privileged processes");
    if (length < 0 || length > HOST_NAME_MAX) return task.fail(Errno.EINVAL, `at most ${HOST_NAME_MAX} bytes`);
    task.namespaces.uts[field] = Buffer.from(task.memory.bytes(name, length)).toString("latin1");
    return 0;
  };
}

function sysinfo(task: Task, to: number): number {
  const { kernel, memory, abi, process } = task;
  const unit = abi.word === 8 ? 1 : 4096;
  const total = kernel.memoryBytes;
  const used = process.space.residentBytes;
  const value = {
    uptime: Math.floor(kernel.clock.now() / 1e9),
    loads: [0, 0, 0],
    totalram: Math.floor(total / unit),
    freeram: Math.floor(Math.max(0, total - used) / unit),
    sharedram: 0,
    bufferram: 0,
    totalswap: 0,
    freeswap: 0,
    procs: kernel.tasks.size,
    totalhigh: 0,
    freehigh: 0,
    mem_unit: unit,
  };
  sysinfoStruct.write(memory, to, value, abi);
  return 0;
}

function getrandom(task: Task, to: number, count: number, flags: number): number {
  if ((flags & ~7) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if ((flags & (GRND_RANDOM | GRND_INSECURE)) === (GRND_RANDOM | GRND_INSECURE)) {
    return task.fail(Errno.EINVAL, "GRND_RANDOM and GRND_INSECURE exclude each other");
  }
  const wanted = Math.min(count, MAX_BYTES);
  const chunk = new Uint8Array(Math.min(wanted, CHUNK));
  let done = 0;
  while (done < wanted) {
    const piece = chunk.subarray(0, Math.min(chunk.length, wanted - done));
    task.kernel.entropy.fill(piece);
    const written = task.memory.writeSome(to + done, piece);
    done += written;
    if (written < piece.length) break;
  }
  return done === 0 && wanted > 0 ? task.fail(Errno.EFAULT, `cannot write at 0x${to.toString(16)}`) : done;
}

const family = "system";
export const systemCalls: readonly Row[] = [
  row("uname", { x86_64: 63, i386: 122 }, [structOut(utsname)], uname, { family }),
  row("olduname", { i386: 109 }, [structOut(oldUtsname)], olduname, { family }),
  row("oldolduname", { i386: 59 }, [structOut(oldestUtsname)], oldolduname, { family }),
  row("sethostname", { x86_64: 170, i386: 74 }, [string, int], setName("hostname"), { family }),
  row("setdomainname", { x86_64: 171, i386: 121 }, [string, int], setName("domainname"), { family }),
  row("sysinfo", { x86_64: 99, i386: 116 }, [structOut(sysinfoStruct)], sysinfo, {
    family,
    support: "a machine of 8 GiB, or of --max-memory, that nobody else uses",
  }),
  row("getrandom", { x86_64: 318, i386: 355 }, [bufferOut, size, getrandomFlags], getrandom, {
    family,
    support: "bytes come from the run's seed",
  }),
];
