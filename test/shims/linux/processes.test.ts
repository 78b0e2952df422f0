// Some hundred operations on processes and on futexes, each with its result or errno: clone's flags, waiting, pidfds, groups, what
// fork copies; all futex operations among threads and processes, owner death, priority inheritance; what becomes of TLS.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("processes as on Linux", "processes.c");
listAsOnLinux("futexes as on Linux", "futexes.c");
listAsOnLinux("thread-local storage of threads and processes as on Linux", "thread-tls.c");
listAsOnLinux("threads as on Linux", "threads.c");
