/** Which file a guest's name on the command line means. */
import { accessSync, constants, existsSync, lstatSync, readlinkSync, type Stats, statSync } from "node:fs";
import path from "node:path";
import { UserError } from "../emulator/errors.ts";
import { hostCode, reason } from "./output.ts";

/** Where the guest's own programs are looked for in a `--root` when its environment has no PATH. */
const GUEST_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/** Parts of a path, links included: more than this is a circle of links. */
const MOST_STEPS = 400;

/**
 * The absolute path of a guest: in `root` if it has that file, else of the host.
 * A name without a slash is looked for as env(1) does: in PATH, the guest's within a root and ours without.
 * @throws UserError 127 when there is no such file, 126 for one that cannot be a program
 */
export function locateGuest(name: string, root: string | undefined, guestPath: string | undefined): string {
  if (name === "") throw new UserError("the guest's name is empty", 127);
  if (root !== undefined) {
    // Whether a path means the root's file or the host's is seen once the root is built.
    if (name.includes("/")) return path.resolve(name);
    const found = inRoot(name, root, guestPath);
    if (found !== undefined) return found;
    throw new UserError(`cannot find the guest ${name} in PATH within ${root}; give its path`, 127);
  }
  const file = name.includes("/") ? path.resolve(name) : inPath(name);
  if (file === undefined) {
    const here = existsSync(name) ? `; for the file in this directory write ./${name}` : "";
    throw new UserError(`cannot find the guest ${name} in PATH${here}`, 127);
  }
  checkProgram(file, name);
  return file;
}

/** The path in the guest, where `root` has such a file. */
function inRoot(name: string, root: string, guestPath: string | undefined): string | undefined {
  const directories = (guestPath ?? GUEST_PATH).split(":").filter((directory) => directory.startsWith("/"));
  return directories.map((directory) => path.posix.join(directory, name)).find((file) => isFileIn(root, file));
}

/** Whether `guest` is a regular file once `root` is `/`: an absolute link starts from there again. */
function isFileIn(root: string, guest: string): boolean {
  const names = guest.split("/");
  let at: string[] = [];
  for (let steps = 0; steps < MOST_STEPS; steps++) {
    const name = names.shift();
    if (name === undefined) return false;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      at.pop();
      continue;
    }
    const host = path.join(root, ...at, name);
    const stat = statOfLink(host);
    if (stat === undefined) return false;
    if (stat.isSymbolicLink()) {
      const target = readlinkSync(host);
      if (target.startsWith("/")) at = [];
      names.unshift(...target.split("/"));
      continue;
    }
    at.push(name);
    if (names.length === 0) return stat.isFile();
    if (!stat.isDirectory()) return false;
  }
  return false;
}

/** Undefined for what is not there and for what may not be looked at. */
function statOfLink(file: string): Stats | undefined {
  try {
    return lstatSync(file, { throwIfNoEntry: false });
  } catch (error) {
    if (hostCode(error) === undefined) throw error;
    return undefined;
  }
}

function inPath(name: string): string | undefined {
  const directories = (process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin").split(":");
  return directories
    .map((directory) => path.resolve(directory, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return statSync(file).isFile();
      } catch {
        return false;
      }
    });
}

/** What Linux would say of the file before it looks inside, in words that fit the command line. */
function checkProgram(file: string, name: string): void {
  let stat: Stats;
  try {
    stat = statSync(file);
    accessSync(file, constants.R_OK);
  } catch (error) {
    const code = hostCode(error);
    throw new UserError(`cannot run ${name}: ${reason(error)}`, code === "ENOENT" || code === "ENOTDIR" ? 127 : 126);
  }
  if (stat.isDirectory()) throw new UserError(`cannot run ${name}: it is a directory`, 126);
  if (!stat.isFile()) throw new UserError(`cannot run ${name}: it is no regular file`, 126);
  if (stat.size === 0) throw new UserError(`cannot run ${name}: the file is empty`, 126);
  if ((stat.mode & 0o111) === 0)
    throw new UserError(`cannot run ${name}: it is not executable; \`chmod +x ${name}\` makes it so`, 126);
}
