/** The device pseudo-TA (pta_device.h): the UUIDs of TAs that stand for devices. */
import { TaFlag } from "../binary.ts";
import { ParamType } from "../constants.ts";
import { fail, Tee } from "../results.ts";
import { uuidToBytes } from "../uuid.ts";
import type { PseudoCall, PseudoTa } from "./pseudo.ts";

/** Which flag a TA needs to be listed by each command. */
const flagOf: Readonly<Record<number, number>> = {
  0: TaFlag.DEVICE_ENUM,
  1: TaFlag.DEVICE_ENUM_SUPP | TaFlag.DEVICE_ENUM_TEE_STORAGE_PRIVATE,
  2: 0,
};

export class DevicePta implements PseudoTa {
  readonly uuid = "7011a688-ddde-4053-a5a9-7b3c4ddf13b8";
  readonly name = "device.pta";

  open(): number {
    return Tee.SUCCESS;
  }

  invoke(call: PseudoCall): number {
    const flags = flagOf[call.command];
    if (flags === undefined) return fail(Tee.ERROR_NOT_IMPLEMENTED, "no such command");
    call.expect(ParamType.MEMREF_OUTPUT, ParamType.NONE, ParamType.NONE, ParamType.NONE);
    const uuids = call.tee.binaries.filter((binary) => !binary.library && (binary.flags & flags) !== 0);
    return call.write(0, Buffer.concat(uuids.map(({ uuid }) => uuidToBytes(uuid))));
  }
}
