/**
 * The JSON Schema of command files: LiteBox' format as it stands (an array of func_id, cmd_id and args), and what goes
 * beyond it. `fixtures/ta/commands.schema.json` is this schema, for editors.
 */
const word64 = {
  description: 'an unsigned 64-bit number, or a string such as "0x10"',
  oneOf: [
    { type: "integer", minimum: 0, maximum: 9007199254740991 },
    { type: "string", pattern: "^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$" },
  ],
} as const;

const base64 = { type: "string", pattern: "^[A-Za-z0-9+/]*={0,2}$" } as const;
const hex = { type: "string", pattern: "^([0-9a-fA-F]{2}[ :]?)*$" } as const;
const uuid = {
  type: "string",
  pattern: "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
} as const;
const size = { type: "integer", minimum: 0, maximum: 33554432 } as const;

const data = { data_base64: base64, data_hex: hex, data_text: { type: "string" } } as const;
const oneData = [{ required: ["data_base64"] }, { required: ["data_hex"] }, { required: ["data_text"] }] as const;

function param(type: string, properties: object, rest: object = {}): object {
  return {
    type: "object",
    properties: { param_type: { const: type }, ...properties },
    required: ["param_type"],
    additionalProperties: false,
    ...rest,
  };
}

const word = { $ref: "#/definitions/word64" } as const;
const values = { value_a: word, value_b: word };
const args = {
  type: "array",
  maxItems: 4,
  items: {
    type: "object",
    discriminator: { propertyName: "param_type" },
    required: ["param_type"],
    oneOf: [
      param("none", {}),
      param("value_input", values, { required: ["param_type", "value_a", "value_b"] }),
      param("value_output", {}),
      param("value_inout", values, { required: ["param_type", "value_a", "value_b"] }),
      param("memref_input", data, { oneOf: oneData }),
      param("memref_output", { buffer_size: size }, { required: ["param_type", "buffer_size"] }),
      param("memref_inout", { ...data, buffer_size: size }, { oneOf: oneData }),
    ],
  },
};

const output = {
  description: "null for a parameter that does not matter",
  oneOf: [
    { type: "null" },
    {
      type: "object",
      properties: { ...values, ...data, size },
      minProperties: 1,
      additionalProperties: false,
    },
  ],
};

const expect = {
  type: "object",
  properties: {
    result: { description: "as TEE_ERROR_BAD_PARAMETERS, or a number", oneOf: [{ type: "string" }, word64.oneOf[0]] },
    origin: { enum: ["api", "comms", "tee", "trusted_app"] },
    args: { type: "array", maxItems: 4, items: output },
    panic: { description: "a part of the sentence that says how the TA died", type: "string" },
  },
  minProperties: 1,
  additionalProperties: false,
};

const common = {
  session: { description: 'the session\'s name; "default" when left out', type: "string", minLength: 1 },
  expect: { $ref: "#/definitions/expect" },
  comment: { type: "string" },
};
const timeout = {
  timeout_ms: { description: "TEE time until the operation counts as cancelled", type: "integer", minimum: 0 },
};
const command = { cmd_id: { type: "integer", minimum: 0, maximum: 4294967295 } };

function call(func: string, properties: object, required: readonly string[] = []): object {
  return {
    type: "object",
    properties: { func_id: { const: func }, ...properties },
    required: ["func_id", ...required],
    additionalProperties: false,
  };
}

const client = {
  type: "object",
  properties: { login: { type: "integer", minimum: 0, maximum: 4294967295 }, uuid },
  additionalProperties: false,
};

export const commandSchema = {
  $schema: "http://json-schema.org/draft-07/schema#",
  $id: "https://shimbed.invalid/commands.schema.json",
  title: "Commands for trusted applications",
  oneOf: [
    { $ref: "#/definitions/list" },
    {
      type: "object",
      properties: {
        $schema: { type: "string" },
        tas: { description: "more TAs and libraries, relative to this file", type: "array", items: { type: "string" } },
        commands: { $ref: "#/definitions/list" },
      },
      required: ["commands"],
      additionalProperties: false,
    },
  ],
  definitions: {
    word64,
    args,
    expect,
    list: { type: "array", items: { $ref: "#/definitions/command" } },
    command: {
      type: "object",
      discriminator: { propertyName: "func_id" },
      required: ["func_id"],
      oneOf: [
        // LiteBox takes cmd_id and args everywhere, so they are allowed where they mean nothing.
        call("open_session", {
          ta: { type: "string" },
          client,
          args: { $ref: "#/definitions/args" },
          ...command,
          ...common,
          ...timeout,
        }),
        call("invoke_command", { args: { $ref: "#/definitions/args" }, ...command, ...common, ...timeout }),
        call("close_session", { args: { $ref: "#/definitions/args" }, ...command, ...common }),
        call("request_cancellation", common),
        call(
          "repeat",
          {
            count: { type: "integer", minimum: 0, maximum: 1000000 },
            commands: { $ref: "#/definitions/list" },
            comment: { type: "string" },
          },
          ["count", "commands"],
        ),
      ],
    },
  },
} as const;
