import { readFileSync } from "node:fs";
import { describe, it } from "vitest";
import { noNative } from "../../world/harness.ts";
import { listAsOnLinux } from "./native-list.ts";

const NEEDED: readonly (readonly [number, string])[] = [
  [21, "CAP_SYS_ADMIN"],
  [22, "CAP_SYS_BOOT"],
  [34, "CAP_SYSLOG"],
];

/** What makes the answers of this machine's kernel others than those of a machine of one's own: a container has less. */
function different(): string | undefined {
  if (noNative !== undefined) return undefined;
  if (readFileSync("/proc/sys/kernel/dmesg_restrict", "utf8").trim() !== "1") return "everybody reads the log here";
  if (process.getuid?.() !== 0) return "not root";
  const [, last = "0"] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  const missing = NEEDED.filter(([number]) => ((BigInt(`0x${last}`) >> BigInt(number)) & 1n) === 0n);
  return missing.length === 0 ? undefined : `root has no ${missing.map(([, name]) => name).join(", ")} here`;
}

const title = "the kernel's log, quotas, rebooting and what epoll watches, as on Linux";
const reason = different();
if (reason === undefined) listAsOnLinux(title, "administration.c");
else describe(title, () => it.skip(reason, () => {}));
