// Asynchronous I/O: contexts, requests and events, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("asynchronous I/O as on Linux", "aio.c");
