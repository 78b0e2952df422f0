import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createAssembler } from "../../../emulator/assembler.ts";
import { parseElf } from "../../../emulator/elf.ts";
import { vdsoImages } from "../../../shims/linux/loader/vdso-images.ts";
import { buildVdso, sourceOf } from "./vdso/build.ts";

const packed = (text: string): string => text.replace(/[\s,]/g, "");

it("the vDSO's images are what their source assembles to", async () => {
  const assembler = await createAssembler();
  const images = { x86_64: buildVdso(assembler, "x86_64"), i386: buildVdso(assembler, "i386") };
  const kept = readFileSync(join(import.meta.dirname, "../../../shims/linux/loader/vdso-images.ts"), "utf8");
  expect(packed(kept)).toBe(packed(sourceOf(images)));
});

it.each(["x86_64", "i386"] as const)("the vDSO of %s is a shared object of one segment", (machine) => {
  const bytes = Buffer.from(vdsoImages[machine].base64, "base64");
  const reader = { size: bytes.length, read: (at: number, length: number) => bytes.subarray(at, at + length) };
  const image = parseElf(reader, "vdso");
  expect(image).toMatchObject({ type: "dyn", interpreter: undefined });
  expect(image.loads).toMatchObject([{ vaddr: 0, offset: 0, filesz: bytes.length, memsz: bytes.length }]);
});
