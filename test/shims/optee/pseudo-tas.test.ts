import * as crypto from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { invokeCommand, openSession, type TaParam } from "../../../shims/optee/client.ts";
import { ParamType } from "../../../shims/optee/constants.ts";
import { resultName } from "../../../shims/optee/results.ts";
import { uuidFromBytes, uuidToBytes } from "../../../shims/optee/uuid.ts";
import { Buf, bytes, hex, Params, Probe, room, u32, word } from "./probe.ts";
import { ta, taFiles } from "./ta-files.ts";

const SYSTEM = "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc";
const DEVICE = "7011a688-ddde-4053-a5a9-7b3c4ddf13b8";
const ATTESTATION = "39800861-182a-4720-9b67-2bcd622bc0b5";
const { MEMREF_INPUT, MEMREF_OUTPUT, VALUE_INPUT, VALUE_OUTPUT } = ParamType;

const probe = new Probe({}, ["library"]);
afterAll(() => probe.close());

/** A command from the probe, whose parameters may lie in its own memory. */
function fromTa(uuid: string, command: number, params: Params): { result: string; out: readonly Uint8Array[] } {
  const [, session] = probe.ok("open_ta_session", bytes(uuidToBytes(uuid)), 0xffff_ffff, 0, u32(), u32());
  const { result, out } = probe.call("invoke_ta_command", word(session), 0xffff_ffff, command, params, u32());
  probe.ok("close_ta_session", word(session));
  return { result, out };
}

/** A command from the normal world. */
function fromOutside(uuid: string, command: number, params: readonly TaParam[]) {
  const { session, answer } = openSession(probe.host.tee, uuid, []);
  if (session === undefined) return { result: resultName(answer.result), outputs: [] };
  const { result, outputs } = invokeCommand(probe.host.tee, session, command, params);
  probe.host.tee.sessions.close(session);
  return { result: resultName(result), outputs };
}

describe("the system pseudo-TA", () => {
  it("serves TAs only", () => {
    expect(fromOutside(SYSTEM, 0, []).result).toBe("TEE_ERROR_ACCESS_DENIED");
    expect(fromTa(SYSTEM, 99, new Params()).result).toBe("TEE_ERROR_NOT_IMPLEMENTED");
  });

  it("derives keys of the device and the TA", () => {
    const derive = (extra: string, length: number) => {
      const { result, out } = fromTa(
        SYSTEM,
        1,
        new Params([MEMREF_INPUT, bytes(Buffer.from(extra))], [MEMREF_OUTPUT, room(length)]),
      );
      return result === "TEE_SUCCESS" ? hex(out[1]) : result;
    };
    expect(derive("a", 32)).toBe(derive("a", 32));
    expect(derive("a", 32)).not.toBe(derive("b", 32));
    expect(derive("a", 32)).not.toBe("00".repeat(32));
    expect(derive("a", 15)).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(derive("a", 33)).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(fromTa(SYSTEM, 1, new Params([VALUE_INPUT, [1, 2]])).result).toBe("TEE_ERROR_BAD_PARAMETERS");
  });

  it("takes entropy, after which random numbers are others", () => {
    const numbers = (entropy: boolean): string => {
      const twin = new Probe({ seed: 3 });
      const [, session] = twin.ok("open_ta_session", bytes(uuidToBytes(SYSTEM)), 0, 0, u32(), u32());
      if (entropy) twin.ok("invoke_ta_command", word(session), 0, 0, new Params([MEMREF_INPUT, bytes("abcd")]), u32());
      const [random] = twin.ok("cryp_random_number_generate", room(16), 16);
      twin.close();
      return hex(random);
    };
    expect(numbers(false)).toBe(numbers(false));
    expect(numbers(true)).not.toBe(numbers(false));
  });

  it("loads libraries and finds their symbols", () => {
    const uuid = bytes(uuidToBytes(ta("probe").uuid));
    expect(
      fromTa(SYSTEM, 10, new Params([MEMREF_INPUT, bytes(new Uint8Array(15))], [VALUE_INPUT, [0x1102, 0]])).result,
    ).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(fromTa(SYSTEM, 10, new Params([MEMREF_INPUT, uuid], [VALUE_INPUT, [0x1102, 0]])).result).toBe("TEE_SUCCESS");
    // The library has thread-local variables, for which there is no room any more.
    const library = bytes(uuidToBytes(ta("library").uuid));
    expect(fromTa(SYSTEM, 10, new Params([MEMREF_INPUT, library], [VALUE_INPUT, [0x1102, 0]])).result).toBe(
      "TEE_ERROR_NOT_SUPPORTED",
    );
    const symbol = (name: string) =>
      fromTa(
        SYSTEM,
        11,
        new Params(
          [MEMREF_INPUT, new Buf(new Uint8Array(16))],
          [MEMREF_INPUT, bytes(Buffer.from(`${name}\0`))],
          [VALUE_OUTPUT, [0, 0]],
        ),
      );
    expect(symbol("no_such").result).toBe("TEE_ERROR_ITEM_NOT_FOUND");
  });
});

it("the device pseudo-TA lists TAs that stand for devices", () => {
  const { outputs } = fromOutside(DEVICE, 0, [{ type: "memref_output", size: 64 }]);
  const [list] = outputs;
  expect(list?.kind === "memory" && [list.size, uuidFromBytes(list.data)]).toEqual([16, ta("probe").uuid]);
  const short = fromOutside(DEVICE, 0, [{ type: "memref_output", size: 8 }]);
  expect([short.result, short.outputs[0]]).toEqual([
    "TEE_ERROR_SHORT_BUFFER",
    { kind: "memory", size: 16, data: new Uint8Array(8) },
  ]);
  expect(fromOutside(DEVICE, 1, [{ type: "memref_output", size: 8 }]).outputs[0]).toEqual({
    kind: "memory",
    size: 0,
    data: new Uint8Array(0),
  });
  expect(fromOutside(DEVICE, 9, []).result).toBe("TEE_ERROR_NOT_IMPLEMENTED");
});

describe("the attestation pseudo-TA", () => {
  const key = fromOutside(ATTESTATION, 0, [
    { type: "memref_output", size: 8 },
    { type: "memref_output", size: 512 },
    { type: "value_output" },
  ]);
  const [e, n, algorithm] = key.outputs;
  if (e?.kind !== "memory" || n?.kind !== "memory") throw new Error("no key");
  const base64 = (data: Uint8Array): string => Buffer.from(data).toString("base64url");
  const publicKey = crypto.createPublicKey({
    format: "jwk",
    key: { kty: "RSA", n: base64(n.data), e: base64(e.data) },
  });

  function signed(nonce: string, measured: Uint8Array, signature: Uint8Array): boolean {
    const padding = { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    return crypto.verify(
      "sha256",
      Buffer.concat([Buffer.from(nonce), measured]),
      { key: publicKey, ...padding },
      signature,
    );
  }

  it("signs the digest of a file", () => {
    expect(algorithm).toEqual({ kind: "value", a: 0x70414930n, b: 0n });
    const { result, outputs } = fromOutside(ATTESTATION, 1, [
      { type: "memref_input", data: uuidToBytes(ta("probe").uuid) },
      { type: "memref_input", data: Buffer.from("nonce") },
      { type: "memref_output", size: 400 },
    ]);
    const out = outputs[2];
    if (out?.kind !== "memory") throw new Error(result);
    const digest = crypto.createHash("sha256").update(readFileSync(taFiles.probe)).digest();
    expect(hex(out.data.subarray(0, 32))).toBe(digest.toString("hex"));
    expect(signed("nonce", out.data.subarray(0, 32), out.data.subarray(32))).toBe(true);
  });

  it("measures the TA that asks, wherever it lies", () => {
    const measure = (nonce: string) =>
      fromTa(ATTESTATION, 2, new Params([MEMREF_INPUT, bytes(Buffer.from(nonce))], [MEMREF_OUTPUT, room(288)]));
    const { out } = measure("abc");
    const hash = out[1]?.subarray(0, 32) ?? new Uint8Array(0);
    expect(signed("abc", hash, out[1]?.subarray(32) ?? new Uint8Array(0))).toBe(true);
    expect(hex(measure("xyz").out[1]?.subarray(0, 32))).toBe(hex(hash));
    expect(
      fromOutside(ATTESTATION, 2, [
        { type: "memref_input", data: Buffer.from("x") },
        { type: "memref_output", size: 288 },
      ]).result,
    ).toBe("TEE_ERROR_ACCESS_DENIED");
    expect(
      fromTa(ATTESTATION, 2, new Params([MEMREF_INPUT, bytes(Buffer.from("x"))], [MEMREF_OUTPUT, room(287)])).result,
    ).toBe("TEE_ERROR_SHORT_BUFFER");
  });
});
