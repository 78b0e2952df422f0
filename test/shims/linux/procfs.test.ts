// /proc as far as it is the same on every machine: memory, pages, namespaces, sockets, zombies.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("/proc as on Linux", "procfs.c");
