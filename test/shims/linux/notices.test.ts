// Leases, F_NOTIFY, O_ASYNC and deadlocks of record locks, each step with its result, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("what fcntl has a process told, as on Linux", "notices.c");
