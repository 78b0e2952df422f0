// Packet mode, VMIN and VTIME, job control, flow control and settings of pseudo-terminals, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("terminals as on Linux", "terminals.c");
