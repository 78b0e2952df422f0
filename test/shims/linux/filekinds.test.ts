// Handles, flags of files, splicing and cloning of all kinds of files, each step with its result, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("kinds of files as on Linux", "filekinds.c");
