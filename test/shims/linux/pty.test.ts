// Pseudo-terminals, each step with its result, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("pseudo-terminals as on Linux", "pty.c");
