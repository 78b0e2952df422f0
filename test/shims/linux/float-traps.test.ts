// Unmasked floating-point exceptions of SSE: si_code, flags and what stays unchanged, against this machine's processor.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("floating-point exceptions as on the processor", "float-traps.c");
