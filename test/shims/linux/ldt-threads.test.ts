import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("an LDT that another thread changes", "ldt-threads.c");
