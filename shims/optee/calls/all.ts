/** Every system call a TA can make. */
import { CallTable } from "../table.ts";
import { asymmetricCalls } from "./asymmetric.ts";
import { authencCalls } from "./authenc.ts";
import { cipherCalls } from "./ciphers.ts";
import { deriveCalls } from "./derive.ts";
import { digestCalls } from "./digests.ts";
import { generateCalls } from "./generate.ts";
import { logCalls } from "./log.ts";
import { memoryCalls } from "./memory.ts";
import { objectCalls } from "./objects.ts";
import { propertyCalls } from "./properties.ts";
import { sessionCalls } from "./sessions.ts";
import { stateCalls } from "./states.ts";
import { storageCalls } from "./storage.ts";
import { enumeratorCalls } from "./storage-enumerators.ts";
import { streamCalls } from "./streams.ts";
import { timeCalls } from "./time.ts";

export const uteeCalls: CallTable = new CallTable("utee", [
  ...logCalls,
  ...propertyCalls,
  ...sessionCalls,
  ...memoryCalls,
  ...timeCalls,
  ...stateCalls,
  ...digestCalls,
  ...cipherCalls,
  ...objectCalls,
  ...deriveCalls,
  ...generateCalls,
  ...authencCalls,
  ...asymmetricCalls,
  ...storageCalls,
  ...enumeratorCalls,
  ...streamCalls,
]);
