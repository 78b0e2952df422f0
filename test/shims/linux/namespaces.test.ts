// Namespaces of users, names and IPC, against this machine's kernel where it lets anybody make them.
import { describe, it } from "vitest";
import { native, noNative } from "../../world/harness.ts";
import { listAsOnLinux } from "./native-list.ts";

/** Containers and some distributions refuse them. */
function canMake(): boolean {
  if (noNative !== undefined) return false;
  const anybody = process.getuid?.() === 0 ? { uid: 1234 } : {};
  return native(["/usr/bin/unshare", "-r", "/bin/true"], { cwd: "/", ...anybody }).status === 0;
}

if (canMake()) listAsOnLinux("namespaces as on Linux", "namespaces.c");
else describe("namespaces", () => it.skip("this machine lets nobody make any", () => {}));
