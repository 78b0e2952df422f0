// x87 and SSE, operation by operation, with their flags and traps, against this machine's processor.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("floating point as on the processor", "float.c");
