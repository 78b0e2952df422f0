import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Ajv } from "ajv";
import { afterAll, describe, expect, it } from "vitest";
import { TaOpenError, ta } from "../../../shims/optee/api.ts";
import { parseCommands } from "../../../shims/optee/commands/parse.ts";
import { commandSchema } from "../../../shims/optee/commands/schema.ts";
import { runCommands } from "../../../shims/optee/run-commands.ts";
import { type TaName, taFiles, ta as taOf } from "./ta-files.ts";

const folder = mkdtempSync(path.join(os.tmpdir(), "shimbed-commands-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ran {
  readonly status: number;
  readonly out: string;
  readonly log: string;
}

async function run(
  name: TaName,
  commands: unknown,
  options: Partial<Parameters<typeof runCommands>[0]> = {},
): Promise<Ran> {
  const file = path.join(folder, "commands.json");
  writeFileSync(file, JSON.stringify(commands));
  let out = "";
  let log = "";
  const status = await runCommands({
    ta: taFiles[name],
    commands: file,
    out: (text) => {
      out += text;
    },
    log: (text) => {
      log += text;
    },
    ...options,
  });
  return { status, out, log };
}

const open = { func_id: "open_session" };
const close = { func_id: "close_session" };

describe("command files", () => {
  it("in LiteBox' format", async () => {
    const invoke = {
      func_id: "invoke_command",
      cmd_id: 1,
      args: [{ param_type: "memref_inout", data_base64: "AQID", buffer_size: 4 }],
    };
    const ran = await run("counter", [open, invoke, close, open, invoke, close]);
    expect(ran).toEqual({
      status: 0,
      out: `open_session: TEE_SUCCESS
invoke_command 1: TEE_SUCCESS
  output (index: 0): 02030401 (4 bytes)
close_session
open_session: TEE_SUCCESS
invoke_command 1: TEE_SUCCESS
  output (index: 0): 02030401 (4 bytes)
close_session
`,
      log: "",
    });
  });

  it("with named sessions, other TAs, repetition and expectations", async () => {
    const state = (a: number, b: number) => ({ args: [{ value_a: a, value_b: b }] });
    const ask = {
      func_id: "invoke_command",
      cmd_id: 0,
      args: [{ param_type: "value_output" }, { param_type: "value_output" }],
    };
    const ran = await run("caller", {
      tas: [taFiles.counter],
      commands: [
        { ...open, session: "c", ta: "counter.elf" },
        { ...open, session: "d", ta: taOf("counter").uuid },
        { func_id: "repeat", count: 3, commands: [{ ...ask, session: "c", expect: state(2, 0) }] },
        { ...close, session: "d" },
        { ...ask, session: "c", expect: { ...state(2, 1), origin: "trusted_app", result: "TEE_SUCCESS" } },
        {
          func_id: "invoke_command",
          session: "c",
          cmd_id: 2,
          args: [{ param_type: "value_input", value_a: "0xffff000c", value_b: 0 }],
          expect: { result: "TEE_ERROR_OUT_OF_MEMORY" },
        },
        { func_id: "invoke_command", session: "c", cmd_id: 3, expect: { panic: "code 0xc0" } },
        { ...close, session: "c" },
      ],
    });
    expect([ran.status, ran.out.match(/not as expected/g)]).toEqual([0, null]);
    expect(ran.log).toMatch(
      /^trusted application 5b1dbed0-0002-.* is dead: panic with code 0xc0\n {2}at 0x[0-9a-f]+ \(tee_call\+0x27\): pop r13\n {2}FS base 0x[0-9a-f]+, set by SetFsBase/,
    );
  });

  it("say what was not as expected, and end with 1", async () => {
    const ran = await run("counter", [
      open,
      {
        func_id: "invoke_command",
        cmd_id: 1,
        args: [{ param_type: "memref_inout", data_text: "abc" }],
        expect: { result: "TEE_ERROR_GENERIC", args: [{ data_text: "abc", size: 2 }] },
      },
      { func_id: "invoke_command", cmd_id: 99 },
    ]);
    expect(ran.status).toBe(1);
    expect(ran.out).toBe(`open_session: TEE_SUCCESS
invoke_command 1: TEE_SUCCESS
  output (index: 0): 626364 (3 bytes)
  not as expected at /1: the result is TEE_SUCCESS, and TEE_ERROR_GENERIC was expected
  not as expected at /1: the size of parameter 0 is 3, and 2 was expected
  not as expected at /1: parameter 0 is 626364, and 616263 was expected
invoke_command 99: TEE_ERROR_NOT_SUPPORTED from TEE_ORIGIN_TRUSTED_APP
  not as expected at /2: the result is TEE_ERROR_NOT_SUPPORTED, and TEE_SUCCESS was expected
2 of 3 commands did not end as expected
`);
  });

  it("as JSON lines, with the trace", async () => {
    const ran = await run("tour", [open, { func_id: "invoke_command", cmd_id: 3 }], { json: true, trace: true });
    const lines = ran.out
      .trim()
      .split("\n")
      .map((line): { event: string; name?: string } => JSON.parse(line));
    expect(lines.filter(({ event }) => event !== "call").map(({ event }) => event)).toEqual(
      // The session that is left open is closed at the end.
      ["enter", "leave", "step", "enter", "leave", "step", "enter", "leave", "end"],
    );
    expect(lines.find(({ name }) => name === "hash_update")).toEqual({
      event: "call",
      instance: 1,
      uuid: taOf("tour").uuid,
      table: "utee",
      number: 19,
      name: "hash_update",
      args: { state: "1", chunk: "6162", chunk_size: "2" },
      result: "TEE_SUCCESS",
    });
  });

  it("trace as strace writes", async () => {
    const ran = await run("tour", [open, { func_id: "invoke_command", cmd_id: 4 }], { trace: true });
    expect(ran.log).toContain(
      "[1] utee_cryp_state_alloc(algo=TEE_ALG_AES_CBC_NOPAD, op_mode=TEE_MODE_ENCRYPT, key1=1, key2=0, state=[1]) = TEE_SUCCESS",
    );
    expect(ran.log).toContain("= TEE_ERROR_MAC_INVALID (the tag is another)");
    expect(ran.log).toContain(
      "[1] utee_cryp_obj_populate(obj=1, attrs=[TEE_ATTR_SECRET_VALUE=00000000000000000000000000000000], attr_count=1) = TEE_SUCCESS",
    );
  });

  it("cancel, by request or by time", async () => {
    const waits = { func_id: "invoke_command", cmd_id: 8 };
    const ran = await run("tour", [
      open,
      { func_id: "request_cancellation" },
      waits,
      { ...waits, timeout_ms: 300 },
      // Nobody does, and the wait goes to its end.
      waits,
    ]);
    expect(ran.out.replace(/0xf0[0-9a-f]{2}/g, "0xf0..")).toBe(`open_session: TEE_SUCCESS
request_cancellation
invoke_command 8: TEE_SUCCESS
invoke_command 8: TEE_SUCCESS
invoke_command 8: 0xf0.. from TEE_ORIGIN_TRUSTED_APP
  not as expected at /4: the result is 0xf0.., and TEE_SUCCESS was expected
1 of 5 commands did not end as expected
`);
  });

  const wrong: readonly (readonly [string, unknown, string])[] = [
    ["no JSON", undefined, "cannot read the commands in c.json"],
    ["nothing", {}, "neither an array of commands nor an object with"],
    ["an unknown function", [{ func_id: "fly" }], 'at /0: "func_id" is "fly", which is none there is'],
    ["an unknown property", [open, { ...open, colour: 1 }], 'at /1: unknown property "colour"'],
    [
      "an unknown parameter",
      [{ ...open, args: [{ param_type: "float" }] }],
      'at /0/args/0: "param_type" is "float", which is none there is',
    ],
    [
      "a value missing",
      [{ ...open, args: [{ param_type: "value_input", value_a: 1 }] }],
      "at /0/args/0: must have required property 'value_b'",
    ],
    [
      "too many arguments",
      [{ ...open, args: [0, 1, 2, 3, 4].map(() => ({ param_type: "none" })) }],
      "at /0/args: must NOT have more than 4 items",
    ],
    [
      "data twice",
      [{ ...open, args: [{ param_type: "memref_input", data_hex: "00", data_text: "a" }] }],
      "at /0/args/0: exactly one of data_base64, data_hex, data_text is to be given",
    ],
    [
      "odd hex",
      [{ ...open, args: [{ param_type: "memref_input", data_hex: "abc" }] }],
      "at /0/args/0/data_hex: must match pattern",
    ],
    [
      "a buffer too small",
      [{ ...open, args: [{ param_type: "memref_inout", data_text: "abc", buffer_size: 2 }] }],
      "at /0/args/0/buffer_size: 2 bytes do not hold the 3 bytes of data",
    ],
    [
      "more than 64 bits",
      [{ ...open, args: [{ param_type: "value_input", value_a: "99999999999999999999", value_b: 0 }] }],
      "at /0/args/0/value_a: more than 64 bits",
    ],
    [
      "an unknown result",
      [{ ...open, expect: { result: "TEE_ERROR_SAD" } }],
      "at /0/expect/result: there is no result TEE_ERROR_SAD",
    ],
    [
      "a wrong place deep down",
      { commands: [{ func_id: "repeat", count: 2, commands: [{ func_id: "invoke_command", cmd_id: -1 }] }] },
      "at /commands/0/commands/0/cmd_id: must be >= 0",
    ],
  ];
  it.each(wrong)("refuse %s", (_, json, message) => {
    const text = json === undefined ? "{" : JSON.stringify(json);
    expect(() => parseCommands(text, "c.json")).toThrow(message);
  });

  it("take 64-bit numbers exactly, as LiteBox does", () => {
    const text = `[{ "func_id": "invoke_command", "comment": "12345678901234567890 \\" 1234567890123456789", "args": [
      { "param_type": "value_input", "value_a": 18446744073709551615, "value_b": 9007199254740993 },
      { "param_type": "value_input", "value_a": 9007199254740991, "value_b": "0xfffffffffffffffe" }] }]`;
    const [command] = parseCommands(text, "c.json").commands;
    expect(command).toMatchObject({
      params: [
        { type: "value_input", a: 2n ** 64n - 1n, b: 2n ** 53n + 1n },
        { type: "value_input", a: 2n ** 53n - 1n, b: 2n ** 64n - 2n },
      ],
    });
    expect(() =>
      parseCommands(
        '[{ "func_id": "open_session", "args": [{ "param_type": "value_input", "value_a": 18446744073709551616, "value_b": 0 }] }]',
        "c.json",
      ),
    ).toThrow("more than 64 bits");
  });

  it("go on when a session does not open, without what is meant for it", async () => {
    const dead = { ...open, args: [{ param_type: "value_input", value_a: 1, value_b: 0 }] };
    const ran = await run("dies", [dead, { func_id: "invoke_command" }, close, open, { func_id: "invoke_command" }]);
    expect([ran.status, ran.out]).toEqual([
      1,
      `open_session: TEE_ERROR_TARGET_DEAD from TEE_ORIGIN_TEE (panic with code 0xdead)
  not as expected at /0: the result is TEE_ERROR_TARGET_DEAD, and TEE_SUCCESS was expected
invoke_command 0
  not as expected at /1: it was not tried, as the session did not open
close_session
open_session: TEE_SUCCESS
invoke_command 0: TEE_SUCCESS
2 of 5 commands did not end as expected
`,
    ]);
  });

  it("refuse sessions that are not open, or open twice", async () => {
    await expect(run("counter", [{ func_id: "invoke_command" }])).rejects.toThrow(
      'at /0: session "default" is not open',
    );
    await expect(run("counter", [open, open])).rejects.toThrow('at /1: session "default" is open already');
    await expect(run("counter", [{ ...open, ta: "nobody.elf" }])).rejects.toThrow(
      "at /0/ta: nobody.elf is neither a UUID nor a TA given",
    );
  });

  it("have a published schema", () => {
    expect(new Ajv().validateSchema(commandSchema)).toBe(true);
    const published = path.join(import.meta.dirname, "../../../fixtures/ta/commands.schema.json");
    expect(JSON.parse(readFileSync(published, "utf8"))).toEqual(JSON.parse(JSON.stringify(commandSchema)));
  });
});

describe("the API", () => {
  it("opens, invokes and disposes", async () => {
    await using session = await ta.open(taFiles.counter);
    await using other = await session.openAnother();
    const answer = await session.invoke(1, [{ type: "memref_inout", data: Buffer.from("HAL") }]);
    const [output] = answer.outputs;
    expect(output?.kind === "memory" && Buffer.from(output.data).toString()).toBe("IBM");
    const state = await other.invoke(0, [{ type: "value_output" }, { type: "value_output" }]);
    expect(state.outputs[0]).toEqual({ kind: "value", a: 2n, b: 0n });
  });

  it("throws where a session cannot be opened", async () => {
    await expect(ta.open(taFiles.dies, [{ type: "value_input", a: 1, b: 0 }])).rejects.toThrow(TaOpenError);
    await expect(ta.open(taFiles.library)).rejects.toThrow("it is a library for trusted applications");
    await expect(ta.open("/nonexistent.elf")).rejects.toThrow("cannot read /nonexistent.elf: ENOENT");
    await expect(ta.open("/bin/true")).rejects.toThrow("it has no .ta_head section");
  });
});
