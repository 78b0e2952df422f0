import { join } from "node:path";
import { expect, test, thread } from "../../cli/testing/index.ts";
import { ROOT } from "./program.ts";

const file = (name: string): string => join(ROOT, "fixtures/ta/bin", `${name}.elf`);

test("a trusted application answers, with its TLS restored before each entry", async ({ ta }) => {
  const session = await ta.open(file("counter"));
  const answer = await session.invoke(1, [{ type: "memref_inout", data: Buffer.from("HAL") }]);
  expect(answer.result).toBe(0);
  expect(answer.outputs[0]).toMatchObject({ kind: "memory", data: Uint8Array.from(Buffer.from("IBM")) });
  expect(session).toHavePunched({ SetFsBase: 2 });
  expect(session).toHaveCalled("invoke_command", { times: 1 });
  expect(session).toTraceLike(`
    ...
    [1] invoke_command(session=<session>, command=1) {
        SetFsBase <base> granted by direct: fs_base 0x0 → <base>
    ...
    [1] } = TEE_SUCCESS`);
  expect(session).toHaveNoFindings();
});

test("failures and panics are seen", async ({ ta }) => {
  const session = await ta.open(file("counter"));
  const answer = await session.invoke(2, [{ type: "value_input", a: 0xffff0006, b: 0 }]);
  expect(answer.result).toBe(0xffff0006);
  expect(session).toHaveFailed("invoke_command", "TEE_ERROR_BAD_PARAMETERS");
  expect(session).toHappen(thread(1).asks("SetFsBase").before(thread(1).fails("invoke_command")));
  await session.invoke(3);
  expect(session.observed().end).toMatchObject({ kind: "session", dead: expect.stringContaining("panic") });
  expect(session).not.toHaveFailed("open_session");
});

test("sessions of one TEE share an instance, and each `open` has a fresh one", async ({ ta }) => {
  const first = await ta.open(file("counter"));
  const second = await first.openAnother();
  const value = { type: "value_output" } as const;
  expect((await second.invoke(0, [value, value])).outputs[0]).toMatchObject({ a: 2n, b: 0n });
  await second.close();
  expect((await first.invoke(0, [value, value])).outputs[0]).toMatchObject({ a: 2n, b: 1n });
  const other = await ta.open(file("counter"));
  expect((await other.invoke(0, [value, value])).outputs[0]).toMatchObject({ a: 1n, b: 0n });
  expect(second).toHavePunched(["...", "SetFsBase"]);
});

test("a planted fault is seen", async ({ ta, inject }) => {
  inject("SetFsBase:nothing:when=2");
  const session = await ta.open(file("counter"));
  await session.invoke(0, [{ type: "value_output" }, { type: "value_output" }]);
  expect(() => expect(session).toHaveNoFindings()).toThrow(
    /^expected nothing wrong, but the audit found[\s\S]*counter\.elf[\s\S]*SetFsBase [\s\S]*granted by direct: nothing changed/,
  );
});

test("a system call of the TA fails with a result of the TEE", async ({ ta, inject }) => {
  inject("return:error=TEE_ERROR_BUSY:when=99");
  expect(() => inject("return:error=TEE_NOTHING")).toThrow("TEE_NOTHING");
  expect(await ta.open(file("counter"))).toHaveNoFindings();
});

test.describe("on a platform that loses FS base at every switch", () => {
  test.override({ provider: "lvbs" });

  test("the TA has its TLS all the same", async ({ ta }) => {
    const session = await ta.open(file("counter"));
    for (let i = 0; i < 3; i++) await session.invoke(1, [{ type: "memref_inout", data: new Uint8Array(4) }]);
    expect(session).toHavePunched({ SetFsBase: 4 });
    expect(session).toHaveNoFindings();
  });
});
