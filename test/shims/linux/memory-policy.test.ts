import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("NUMA policies as on Linux", "memory-policy.c");
