import { listAsOnLinux } from "./native-list.ts";

// The scripts need an interpreter.
listAsOnLinux("programs started by a descriptor", "exec-by-descriptor.c", ["--root", "/"]);
