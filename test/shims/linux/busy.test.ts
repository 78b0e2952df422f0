import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("programs that run, and files open for writing", "busy.c");
