import { AttestationPta } from "./attestation.ts";
import { DevicePta } from "./device.ts";
import type { PseudoTa } from "./pseudo.ts";
import { SystemPta } from "./system.ts";

/** The pseudo-TAs of one TEE. */
export function createPseudoTas(): readonly PseudoTa[] {
  return [new SystemPta(), new DevicePta(), new AttestationPta()];
}
