// `npm start`: set-up, then shimbed in this same process, so that the guest has the terminal, the pipes and the
// signals for itself. Without arguments it runs the demonstration.

import { fileURLToPath } from "node:url";
import { setUp } from "./setup.mjs";

setUp();

const given = process.argv.slice(2);
const program = fileURLToPath(new URL("../dist/cli/shimbed.cjs", import.meta.url));
process.argv = [process.execPath, program, ...(given.length > 0 ? given : ["demo"])];
await import("../dist/cli/shimbed.cjs");
