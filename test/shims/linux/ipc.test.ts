// System V IPC and POSIX message queues, each operation with its result or errno, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("shared memory, semaphores and message queues as on Linux", "ipc.c");
