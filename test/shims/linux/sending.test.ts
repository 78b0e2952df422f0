// MSG_MORE, corks, MSG_PEEK with MSG_WAITALL, each step with its result, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("what sockets hold back and wait for, as on Linux", "sending.c");
