/**
 * Writes objects to a storage file for ever and says, by a line on standard output, what is committed: a process that the test
 * kills. Version n of object k holds a byte pattern that only depends on both.
 */
import { writeSync } from "node:fs";
import { FileStore } from "../../../shims/optee/storage/file-store.ts";
import { TA, versionOf } from "./storage-pattern.ts";

const [path = "", start = "1"] = process.argv.slice(2);
const store = new FileStore(path, new Uint8Array(32));
for (let version = Number(start); ; version++) {
  const id = `0${version % 5}`;
  writeSync(1, `begin ${version}\n`);
  store.write({ ta: TA, id }, versionOf(version));
  writeSync(1, `done ${version}\n`);
}
