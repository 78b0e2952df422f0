// Some hundred requests of ptrace, each with its answer, and what wait tells of stops: as on this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("ptrace as on Linux", "ptrace.c");
