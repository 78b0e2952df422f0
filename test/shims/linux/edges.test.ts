import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("ranges that wrap, timers without a value, structs of other sizes", "edges.c");
