// What seccomp answers, what filters and their machine do to calls, alone and with a tracer: as on this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("seccomp as on Linux", "seccomp.c");
