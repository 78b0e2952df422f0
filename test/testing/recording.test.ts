import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GuestFiles } from "../../cli/testing/guest-files.ts";
import { readRecording } from "../../cli/testing/recording-file.ts";
import { ROOT, SHIMBED, shimbed } from "./program.ts";

const folder = mkdtempSync(join(tmpdir(), "shimbed-recording-"));
afterAll(() => rmSync(folder, { recursive: true }));
const GUEST = join(ROOT, "fixtures/bin/tls-x86_64");
const recording = join(folder, "run.rec");
const inRoot = join(folder, "root.rec");

beforeAll(async () => {
  expect(shimbed(folder, ["record", "-o", recording, "--seed", "3", GUEST]).status).toBe(0);
  // Reads standard input and then /data/link, a symbolic link, through descriptors 0 and 3, writes both, and stats a file.
  const { file } = await new GuestFiles().asm(
    `
    mov eax, 0; xor edi, edi; lea rsi, [rip + room]; mov edx, 64; syscall
    mov rdx, rax; mov eax, 1; mov edi, 1; lea rsi, [rip + room]; syscall
    mov eax, 2; lea rdi, [rip + name]; xor esi, esi; xor edx, edx; syscall
    mov edi, eax; mov eax, 0; lea rsi, [rip + room]; mov edx, 64; syscall
    mov rdx, rax; mov eax, 1; mov edi, 1; lea rsi, [rip + room]; syscall
    mov eax, 4; lea rdi, [rip + other]; lea rsi, [rip + room]; syscall
    xor edi, edi; mov eax, 231; syscall
    name: .asciz "/data/link"
    other: .asciz "/data/large"
    room: .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0`,
    64,
  );
  const root = join(folder, "root");
  mkdirSync(join(root, "data"), { recursive: true });
  writeFileSync(join(root, "data/text"), "from a file\n");
  writeFileSync(join(root, "data/large"), "x".repeat(1_000_000));
  writeFileSync(join(root, "data/unused"), "never looked at");
  symlinkSync("text", join(root, "data/link"));
  const done = shimbed(folder, ["record", "-o", inRoot, "--root", root, file], { input: "from a pipe\n" });
  expect(done).toEqual({ status: 0, out: "from a pipe\nfrom a file\n", err: "" });
  // All that a replay needs is in the recording.
  rmSync(root, { recursive: true });
});

describe("a recording", () => {
  it("is run again with the same trace and output", () => {
    const done = shimbed("/", ["replay", recording]);
    expect(done).toEqual(shimbed("/", ["run", GUEST]));
    expect(shimbed("/", ["replay", "-q", recording])).toEqual({ status: 0, out: "", err: "" });
  });

  it("holds the files that were read, links, input, and of other files no more than was seen", () => {
    expect(shimbed("/", ["replay", inRoot])).toEqual({ status: 0, out: "from a pipe\nfrom a file\n", err: "" });
    const { files } = readRecording(inRoot);
    const names = files.map(({ path, kind, data }) => `${path} ${kind}${data === undefined ? "" : " read"}`);
    expect(names).toContain("/data/link link");
    expect(names).toContain("/data/text file read");
    expect(names).toContain("/data/large file");
    expect(names.join()).not.toContain("unused");
  });

  it("is stopped where it goes another way", () => {
    const lines = readFileSync(recording, "utf8").split("\n");
    const at = lines.findIndex((line) => line.includes("ARCH_GET_FS"));
    lines[at] = (lines[at] ?? "").replace("ARCH_GET_FS", "ARCH_GET_GS");
    const file = join(folder, "other.rec");
    writeFileSync(file, sealed(lines));
    const done = shimbed("/", ["replay", "-q", file]);
    expect(done.status).toBe(1);
    expect(done.err.replaceAll(folder, "…")).toMatchSnapshot();
  });

  it("has an end that counts too", () => {
    const lines = readFileSync(recording, "utf8").split("\n");
    const last = lines.length - 3;
    const { end } = JSON.parse(lines[last] ?? "");
    lines[last] = JSON.stringify({ end: { ...end, status: 7 } });
    const file = join(folder, "end.rec");
    writeFileSync(file, sealed(lines));
    const done = shimbed("/", ["replay", "-q", file]);
    expect([done.status, done.err]).toEqual([
      1,
      `shimbed: ${file} goes another way: all ${end.steps} steps are the same, but not what it prints or its status\n`,
    ]);
  });

  it.each<[string, (text: string) => string, string]>([
    ["empty", () => "", "it is no recording of shimbed"],
    ["another file", () => '{"a":1}\n', "it is no recording of shimbed"],
    ["cut off in a line", (text) => text.slice(0, text.length / 2), "it is cut off after line"],
    ["cut off after a line", (text) => text.split("\n").slice(0, -2).join("\n"), "it is cut off after line"],
    ["edited", (text) => text.replace('"seed":3', '"seed":4'), "it was changed since it was written"],
    ["without a line", (text) => text.split("\n").toSpliced(9, 1).join("\n"), "it was changed since it was written"],
    [
      "newer",
      (text) => text.replace('"version":1', '"version":2'),
      "it was written by a newer shimbed (format 2, this one reads 1)",
    ],
    [
      "sealed anew without files",
      (text) => sealed(text.split("\n").toSpliced(1, 1)),
      "it is not of the form that shimbed writes",
    ],
  ])("that is %s is refused", (name, change, message) => {
    const file = join(folder, `${name}.rec`);
    writeFileSync(file, change(readFileSync(recording, "utf8")));
    expect(() => readRecording(file)).toThrow(`cannot use the recording ${file}: ${message}`);
  });

  it("with a file whose content was changed is refused", () => {
    const lines = readFileSync(recording, "utf8").split("\n");
    const at = lines.findIndex((line) => line.includes('"data":'));
    const kept = JSON.parse(lines[at] ?? "");
    lines[at] = JSON.stringify({ ...kept, sha256: "0".repeat(64) });
    const file = join(folder, "content.rec");
    writeFileSync(file, sealed(lines));
    expect(shimbed("/", ["replay", file]).err).toContain(`the recording's file ${kept.path} is not as it was recorded`);
  });

  it("with a file that leads out of its place is refused", () => {
    const lines = readFileSync(recording, "utf8").split("\n");
    const at = lines.findIndex((line) => line.includes('"data":'));
    const kept = JSON.parse(lines[at] ?? "");
    lines[at] = JSON.stringify({ ...kept, path: "/../../escaped" });
    const file = join(folder, "escape.rec");
    writeFileSync(file, sealed(lines));
    expect(shimbed("/", ["replay", file]).err).toContain("has a file of the path /../../escaped, which is none");
  });
});

describe("recording", () => {
  it.each([
    ["--clock", "host"],
    ["--timeout", "3"],
    ["--bind", "/tmp:/x:rw"],
    ["--policy", "policy.json"],
  ])("refuses %s", (...words) => {
    const done = shimbed(folder, ["record", "-o", join(folder, "never.rec"), ...words, GUEST]);
    expect([done.status, done.out]).toEqual([125, ""]);
    expect(done.err).toContain(`shimbed: cannot record with ${words[0]}`);
    expect(existsSync(join(folder, "never.rec"))).toBe(false);
  });

  it.skipIf(!existsSync("/dev/full"))("writes to a device without replacing it", () => {
    const done = shimbed(folder, ["record", "-o", "/dev/full", GUEST]);
    expect(done).toMatchObject({
      status: 125,
      err: "shimbed: cannot write the recording /dev/full: no space left on the device\n",
    });
    expect(statSync("/dev/full").isCharacterDevice()).toBe(true);
    expect(shimbed(folder, ["record", "-o", ".", GUEST]).err).toContain("it is a directory");
  });

  it("keeps what was there when the disk is full", () => {
    const place = join(folder, "full");
    mkdirSync(place);
    writeFileSync(join(place, "kept.rec"), "as it was");
    // A file larger than the limit fails as on a full disk, with another errno.
    const under = (blocks: number): string => {
      const words = [...SHIMBED, "record", "-o", join(place, "kept.rec"), GUEST, "x".repeat(100_000)];
      const quoted = words.map((word) => `'${word}'`).join(" ");
      const done = spawnSync("bash", ["-c", `ulimit -f ${blocks}; exec ${quoted}`], { encoding: "utf8" });
      expect(done.status).toBe(125);
      return done.stderr;
    };
    expect(under(1)).toMatch(/^shimbed: cannot put the guest's files into .*: the file would be too large\n$/);
    expect(under(64)).toBe(
      `shimbed: cannot write the recording ${join(place, "kept.rec")}: the file would be too large\n`,
    );
    expect(readdirSync(place)).toEqual(["kept.rec"]);
    expect(readFileSync(join(place, "kept.rec"), "utf8")).toBe("as it was");
  });
});

/** The lines with the digest that belongs to them. */
function sealed(lines: readonly string[]): string {
  const body = lines.slice(0, -2).map((line) => `${line}\n`);
  return `${body.join("")}${JSON.stringify({ digest: createHash("sha256").update(body.join("")).digest("hex") })}\n`;
}
