import { UserError } from "../emulator/errors.ts";
import { DirectProvider } from "./direct.ts";
import type { PlatformOptions } from "./host.ts";
import type { HostEventKind } from "./host-events.ts";
import { KernelPlatform } from "./kernel-platforms.ts";
import { LinuxUserland } from "./linux-userland.ts";
import { LinuxUserlandI386 } from "./linux-userland-i386.ts";
import {
  type Difference,
  narrowDifferences,
  type TaDifference,
  taDifferences,
  threadStartsWithZero,
  wideDifferences,
} from "./litebox.ts";
import type { Platform } from "./platform.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";
import { WindowsUserland } from "./windows-userland.ts";

type AbiName = "x86_64" | "i386";
type ShimName = "linux" | "optee";

/** What a user may want to know of a provider before choosing it. */
export interface ProviderInfo {
  readonly name: string;
  readonly description: string;
  /** Guest word sizes and shims it serves. */
  readonly abis: readonly AbiName[];
  readonly shims: readonly ShimName[];
  /** Events of its host that can strike while a guest runs. */
  readonly hostEvents: readonly HostEventKind[];
  /** Where LiteBox on this platform answers unlike Linux, by ABI; none for `direct`, which is not LiteBox. */
  readonly differences: Readonly<Partial<Record<AbiName, readonly Difference[]>>>;
  /** The same for trusted applications. */
  readonly taDifferences: readonly TaDifference[];
}

interface Row extends ProviderInfo {
  create(options: PlatformOptions, abi: AbiName): PunchthroughProvider;
}

const rows: readonly Row[] = [
  {
    name: "direct",
    description: "a Linux kernel on the bare CPU: exactly Linux's semantics, everything granted",
    abis: ["x86_64", "i386"],
    shims: ["linux", "optee"],
    hostEvents: ["reschedule", "interrupt"],
    differences: {},
    taDifferences: [],
    create: ({ platform }) => new DirectProvider(platform),
  },
  {
    name: "linux-userland",
    description:
      "LiteBox over a Linux process: FS and GS swapped on the way in and out, a stored copy of the guest's base",
    abis: ["x86_64", "i386"],
    shims: ["linux", "optee"],
    hostEvents: ["reschedule", "interrupt"],
    differences: {
      x86_64: [...wideDifferences, threadStartsWithZero("litebox_platform_linux_userland/src/lib.rs:372-393")],
      i386: narrowDifferences,
    },
    taDifferences,
    create: (options, abi) => (abi === "i386" ? new LinuxUserlandI386(options) : new LinuxUserland(options)),
  },
  {
    name: "linux-kernel",
    description: "LiteBox as a kernel in a confidential VM (SNP): the base is live, swapgs for GS, exec clears nothing",
    abis: ["x86_64"],
    shims: ["linux"],
    hostEvents: ["reschedule", "interrupt"],
    differences: {
      x86_64: [
        ...wideDifferences,
        {
          topic: "exec",
          linux: "clears FS and GS",
          litebox: "panics: clear_guest_thread_local_storage is not written",
          source: "litebox_platform_linux_kernel/src/host/snp/snp_impl.rs:119-129",
        },
        {
          topic: "rcx and r11 after a signal handler",
          linux: "those of the frame",
          litebox: "lost: the way out is sysretq, which uses them",
          source: "litebox_platform_linux_kernel/src/lib.rs:531-561",
        },
        threadStartsWithZero(
          "litebox_platform_linux_kernel/src/lib.rs:59-116, the virtual CPU is the host's to set up",
        ),
      ],
    },
    taDifferences: [],
    create: (options) => new KernelPlatform({ name: "linux-kernel", vtl: false }, options),
  },
  {
    name: "lvbs",
    description:
      "LiteBox in VTL1 beside Hyper-V, for trusted applications: the base is live and lost at every VTL switch",
    abis: ["x86_64"],
    shims: ["optee"],
    hostEvents: ["interrupt", "vtl"],
    differences: {},
    taDifferences,
    create: (options) => new KernelPlatform({ name: "lvbs", vtl: true }, options),
  },
  {
    name: "windows-userland",
    description: "LiteBox over a Windows process: Windows zeroes FS base when it reschedules; a stored copy repairs it",
    abis: ["x86_64"],
    shims: ["linux"],
    hostEvents: ["reschedule", "interrupt"],
    differences: {
      x86_64: [...wideDifferences, threadStartsWithZero("litebox_platform_windows_userland/src/lib.rs:46-97")],
    },
    taDifferences: [],
    create: (options) => new WindowsUserland(options),
  },
];

/** Every provider there is; the first is the default. */
export const providerInfos: readonly ProviderInfo[] = rows;

export const providerNames: readonly string[] = rows.map((row) => row.name);

export interface ProviderOptions {
  /** Of the first program, x86_64 when left out. */
  readonly abi?: AbiName;
  /** `linux` when left out. */
  readonly shim?: ShimName;
  /** `--as litebox`. */
  readonly asLitebox?: boolean;
  /** CR4.FSGSBASE of the host; on when left out. */
  readonly fsgsbase?: boolean;
}

/**
 * Makes a provider for one machine.
 * @throws UserError when there is none of that name, or it does not serve the guest
 */
export function createProvider(name: string, platform: Platform, options: ProviderOptions = {}): PunchthroughProvider {
  const { abi = "x86_64", shim, asLitebox = false, fsgsbase = true } = options;
  const row = rows.find((candidate) => candidate.name === name);
  if (row === undefined)
    throw new UserError(`unknown provider "${name}": choose one of ${providerNames.join(", ")}`, 125);
  if (shim !== undefined && !row.shims.includes(shim)) refuse(row, `the ${shim} shim`, (r) => r.shims.includes(shim));
  if (!row.abis.includes(abi)) refuse(row, `${abi} guests`, (r) => r.abis.includes(abi));
  if (asLitebox && row.name === "direct") {
    throw new UserError("provider direct is Linux and answers nothing as LiteBox: choose another provider", 125);
  }
  return row.create({ platform, asLitebox, fsgsbase }, abi);
}

function refuse(row: Row, what: string, serves: (row: Row) => boolean): never {
  const others = rows.filter(serves).map((other) => other.name);
  throw new UserError(
    `provider ${row.name} does not serve ${what}: it stands for ${row.description}; choose one of ${others.join(", ")}`,
    125,
  );
}
