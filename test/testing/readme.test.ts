// The examples of the README, as a user has them: in a folder of its own, with the compiled package.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "./program.ts";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const section = readme.slice(readme.indexOf("## Testing TLS"));
const example = /```ts\n(.*?)```/s.exec(section)?.[1] ?? "";
const folder = mkdtempSync(join(tmpdir(), "shimbed-readme-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Planted {
  readonly expectation: string;
  readonly rule: string;
  readonly output: string;
}

/** A line that says what is planted, and the block with what is printed. */
const planted: Planted[] = [...section.matchAll(/^`inject\("([^"]+)"\)` and `([^`]+)`:\n\n```text\n(.*?)```/gms)].map(
  ([, rule = "", expectation = "", output = ""]) => ({ rule, expectation, output }),
);

function faulty({ rule, expectation }: Planted): string {
  return example
    .replace("{ linux }", "{ linux, inject }")
    .replace(
      / {2}const run = .*/s,
      `  inject("${rule}");\n  const run = await linux.run(guest);\n  ${expectation};\n});\n`,
    );
}

function vitest(file: string): { readonly status: number | null; readonly text: string } {
  const done = spawnSync(
    process.execPath,
    [join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--testTimeout=60000", file],
    {
      cwd: folder,
      encoding: "utf8",
      env: { PATH: process.env.PATH, HOME: folder, NO_COLOR: "1", CI: "1" },
    },
  );
  return { status: done.status, text: done.stdout + done.stderr };
}

beforeAll(() => {
  if (!existsSync(join(ROOT, "dist/cli/testing/index.js")))
    throw new Error("the compiled package is not there: run `npm start` or `npm run build` first");
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(ROOT, join(folder, "node_modules/shimbed"));
  for (const name of ["vitest", "@types"])
    symlinkSync(join(ROOT, "node_modules", name), join(folder, "node_modules", name));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const compilerOptions = { strict: true, module: "nodenext", target: "es2023", noEmit: true, types: ["node"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  writeFileSync(join(folder, "tls.test.ts"), example);
  for (const [index, one] of planted.entries()) writeFileSync(join(folder, `planted-${index}.test.ts`), faulty(one));
  writeFileSync(
    join(folder, "wrong.ts"),
    `import { expect, type Observed, test } from "shimbed/test";
declare const run: Observed;
// @ts-expect-error a status is a number
expect(run).toExit("0");
// @ts-expect-error there is no such request
expect(run).toHavePunched("SetBase");
// @ts-expect-error there is no such finding
expect(run).toHaveNoFindings(["leak"]);
// @ts-expect-error there is no such fixture
test("a", async ({ windows }) => windows);
`,
  );
});

describe("the examples of the README", () => {
  it("have right types, and wrong ones are noticed", () => {
    const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
    const done = spawnSync(process.execPath, [tsc, "-p", "."], { cwd: folder, encoding: "utf8" });
    expect(done.stdout).toBe("");
  });

  it("pass", () => {
    const { status, text } = vitest("tls.test.ts");
    expect({ status, text }).toMatchObject({ status: 0, text: expect.stringContaining("1 passed") });
  });

  it("show three planted faults", () => {
    expect(planted).toHaveLength(3);
  });

  it.each(planted.map((one, index) => [one.rule, index, one.output] as const))(
    "fail with %s as is shown",
    (_, index, output) => {
      const { status, text } = vitest(`planted-${index}.test.ts`);
      expect(status).toBe(1);
      expect(text).toContain(output.trimEnd());
    },
  );
});
