// fallocate in all its modes, each step with its result and the file's content, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("fallocate as on Linux", "allocation.c");
