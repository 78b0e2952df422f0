/** What LiteBox answers where that differs from Linux. Sources are files of github.com/microsoft/litebox at commit 3cc745cc. */
import { Errno } from "./errno.ts";
import { failure } from "./linux-tls.ts";
import type { Request, Result } from "./requests.ts";

/** One such answer, for `shimbed providers NAME`. */
export interface Difference {
  readonly topic: string;
  readonly linux: string;
  readonly litebox: string;
  readonly source: string;
}

/** The same for trusted applications: what our shim for them does where LiteBox' does something else. */
export interface TaDifference {
  readonly topic: string;
  readonly direct: string;
  readonly litebox: string;
  readonly source: string;
}

const COMMON = "litebox_common_linux/src/lib.rs";
const PROCESS = "litebox_shim_linux/src/syscalls/process.rs";
const SHIM = "litebox_shim_linux/src/lib.rs";

const PANICS: Difference = {
  topic: "no token, Unsupported or Unimplemented",
  linux: "an errno for the guest",
  litebox: "the runner panics",
  source: `${PROCESS}:386-433`,
};

/** Differences of every 64-bit platform that runs Linux programs. */
export const wideDifferences: readonly Difference[] = [
  {
    topic: "arch_prctl ARCH_SET_GS, ARCH_GET_GS",
    linux: "served",
    litebox: "EINVAL",
    source: `${COMMON}:2681-2695`,
  },
  {
    topic: "ARCH_SET_FS with an address outside user space",
    linux: "EPERM",
    litebox: "accepted; wrfsbase faults in host code where the address is not canonical",
    source: `${PROCESS}:379-417`,
  },
  {
    topic: "set_thread_area and get_thread_area by int 0x80, modify_ldt",
    linux: "served",
    litebox: "ENOSYS",
    source: `${SHIM}:1044-1067`,
  },
  PANICS,
];

/** Differences of the 32-bit platform. */
export const narrowDifferences: readonly Difference[] = [
  {
    topic: "get_thread_area, modify_ldt",
    linux: "served",
    litebox: "ENOSYS",
    source: `${SHIM}:1044-1067`,
  },
  {
    topic: "entry that set_thread_area(-1) gives first",
    linux: "the first of three",
    litebox: "the second: the first belongs to the host's C library",
    source: "litebox_platform_linux_userland/src/lib.rs:1138-1170",
  },
  {
    topic: "selectors that sigreturn loads",
    linux: "all of the frame's",
    litebox: "GS only",
    source: "litebox_platform_linux_userland/src/lib.rs:803-833",
  },
  {
    topic: "exec",
    linux: "clears all three TLS entries",
    litebox: "clears the entry that GS selects",
    source: "litebox_platform_linux_userland/src/lib.rs:1156-1171",
  },
  PANICS,
];

const OPTEE = "litebox_shim_optee/src/lib.rs";

/** Differences of every platform that runs trusted applications. */
export const taDifferences: readonly TaDifference[] = [
  {
    topic: "a token that fails before an entry",
    direct: "the application dies, as it has no TLS",
    litebox: "ignored: it is entered with the base that is there",
    source: `${OPTEE}:790-804`,
  },
  {
    topic: "no token, Unsupported or Unimplemented before an entry",
    direct: "the application dies",
    litebox: "the runner panics",
    source: `${OPTEE}:795-803`,
  },
  {
    topic: "an application's TLS page",
    direct: "a pointer to itself and a random canary",
    litebox: "all zeros, so that a wrong base may go unnoticed",
    source: `${OPTEE}:750-784`,
  },
];

/** LiteBox' answer to a request that it refuses and Linux does not; undefined for the others. */
export function refusalOfLitebox(request: Request, abi: "x86_64" | "i386"): Result | undefined {
  switch (request.kind) {
    case "SetGsBase":
    case "GetGsBase":
      return failure(Errno.EINVAL);
    case "SetFsBase":
    case "GetFsBase":
      return abi === "i386" ? failure(Errno.EINVAL) : undefined;
    case "SetThreadArea":
      return abi === "x86_64" ? failure(Errno.ENOSYS) : undefined;
    case "GetThreadArea":
    case "SetLdtEntry":
      return failure(Errno.ENOSYS);
    default:
      return undefined;
  }
}

export function threadStartsWithZero(source: string): Difference {
  return { topic: "FS base of a thread cloned without CLONE_SETTLS", linux: "the parent's", litebox: "0", source };
}
