// Asked by binding.gyp: where is Unicorn, and may it be linked statically?
//
//   node find_unicorn.mjs archive    path of libunicorn.a, or nothing: then link -lunicorn
//   node find_unicorn.mjs include    directories with unicorn/unicorn.h, where the compiler does not look by itself
//   node find_unicorn.mjs libs       linker flags for the shared library
//
// SHIMBED_UNICORN=shared never takes the archive, SHIMBED_UNICORN=static takes it whatever its version.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";

const compiler = process.env.CXX ?? "c++";

/** Standard output of a command, or "" when it is not there or fails: each caller has an answer for that. */
function output(command, args, input = "") {
  try {
    return execFileSync(command, args, { input, encoding: "utf8", stdio: ["pipe", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

function includeFlags() {
  return output("pkg-config", ["--cflags-only-I", "unicorn"]).split(/\s+/).filter(Boolean);
}

function headerVersion() {
  const source = "#include <unicorn/unicorn.h>\nversion UC_API_MAJOR UC_API_MINOR\n";
  const text = output(compiler, ["-E", "-P", "-x", "c++", ...includeFlags(), "-"], source);
  const match = /^version (\d+) (\d+)$/m.exec(text);
  return match ? `${match[1]}.${match[2]}` : undefined;
}

function archive() {
  const wish = process.env.SHIMBED_UNICORN;
  if (wish === "shared" || process.platform !== "linux") return "";
  // What is taken over are Unicorn's inner functions and structures, those of 2.0 only.
  if (wish !== "static" && headerVersion() !== "2.0") return "";
  const fromCompiler = output(compiler, ["-print-file-name=libunicorn.a"]);
  const libdir = output("pkg-config", ["--variable=libdir", "unicorn"]);
  const candidates = [fromCompiler, libdir && `${libdir}/libunicorn.a`];
  const found = candidates.find((path) => path && isAbsolute(path) && existsSync(path));
  return found ? resolve(found) : "";
}

const answers = {
  archive,
  include: () =>
    includeFlags()
      .map((flag) => flag.slice(2))
      .join("\n"),
  libs: () => output("pkg-config", ["--libs", "unicorn"]) || "-lunicorn",
};
const answer = answers[process.argv[2]];
if (!answer)
  throw new Error(`find_unicorn.mjs: asked for ${process.argv[2]}, knows ${Object.keys(answers).join(", ")}`);
console.log(answer());
