// What inotify tells of a few hundred file operations, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("inotify as on Linux", "inotify.c");
