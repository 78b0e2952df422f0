// What mappings show of files that change their size, and what madvise does to memory.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("files that shrink and grow under mappings as on Linux", "shrink.c");
