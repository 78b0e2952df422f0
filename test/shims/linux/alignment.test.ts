// Misaligned operands of SSE instructions, and of all under EFLAGS.AC, against this machine's processor.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("alignment as on the processor", "alignment.c");
