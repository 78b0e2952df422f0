import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("programs started by a descriptor", "exec-by-descriptor.c");
