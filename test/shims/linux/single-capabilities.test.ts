// Each capability on its own, and credentials of threads, against this machine's kernel.
import { readFileSync } from "node:fs";
import { describe, it } from "vitest";
import { noNative } from "../../world/harness.ts";
import { listAsOnLinux } from "./native-list.ts";

/** Those that are tried, CAP_SETGID and CAP_SETUID. */
const NEEDED: readonly (readonly [number, string])[] = [
  [0, "CAP_CHOWN"],
  [1, "CAP_DAC_OVERRIDE"],
  [2, "CAP_DAC_READ_SEARCH"],
  [3, "CAP_FOWNER"],
  [4, "CAP_FSETID"],
  [6, "CAP_SETGID"],
  [7, "CAP_SETUID"],
  [10, "CAP_NET_BIND_SERVICE"],
  [12, "CAP_NET_ADMIN"],
  [15, "CAP_IPC_OWNER"],
  [18, "CAP_SYS_CHROOT"],
  [21, "CAP_SYS_ADMIN"],
  [27, "CAP_MKNOD"],
  [28, "CAP_LEASE"],
];

/** What root lacks here, as in a container, where the program could not set it; other users set none. */
function lacking(): string[] {
  if (noNative !== undefined || process.getuid?.() !== 0) return [];
  const [, last = "0"] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return NEEDED.filter(([number]) => ((BigInt(`0x${last}`) >> BigInt(number)) & 1n) === 0n).map(([, name]) => name);
}

const missing = lacking();
if (missing.length === 0) listAsOnLinux("each capability on its own, as on Linux", "single-capabilities.c");
else describe("each capability on its own", () => it.skip(`root has no ${missing.join(", ")} here`, () => {}));
