// Rarer ways to look at a process, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("views of a process as on Linux", "process-views.c");
