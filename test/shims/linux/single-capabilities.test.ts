// Each capability on its own, and credentials of threads, against this machine's kernel.
import { readFileSync } from "node:fs";
import { describe, it } from "vitest";
import { noNative } from "../../world/harness.ts";
import { listAsOnLinux } from "./native-list.ts";

/** Those that are tried, CAP_SETGID and CAP_SETUID. */
const NEEDED = [0, 1, 2, 3, 4, 6, 7, 10, 12, 15, 18, 21, 27, 28];

/** Root in a container may have fewer, and could not set the others. */
function hasAll(): boolean {
  if (noNative !== undefined || process.getuid?.() !== 0) return noNative === undefined;
  const [, last = "0"] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return NEEDED.every((cap) => (BigInt(`0x${last}`) >> BigInt(cap)) & 1n);
}

if (hasAll()) listAsOnLinux("each capability on its own, as on Linux", "single-capabilities.c");
else describe("each capability on its own", () => it.skip("root has not all of them here", () => {}));
