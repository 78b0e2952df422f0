// `npm start`: set-up, then shimbed in this same process, so that the guest has the terminal, the pipes and the
// signals for itself. Without arguments it runs the demonstration.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { setUp } from "./setup.mjs";

setUp();

const program = join(dirname(dirname(fileURLToPath(import.meta.url))), "dist", "cli", "shimbed.js");
if (!existsSync(program)) throw new Error(`${program} is missing after set-up`);
const given = process.argv.slice(2);
process.argv = [process.execPath, program, ...(given.length > 0 ? given : ["demo"])];
await import(pathToFileURL(program).href);
