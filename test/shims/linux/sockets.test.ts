// More than a thousand socket operations, each with its result or errno: the run's own network against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("sockets as on Linux", "net.c");
listAsOnLinux("sockets between processes as on Linux", "net-processes.c");
