// Policies, nice values, I/O priorities and limits of CPU time: each call with its result or errno, and what children get of them.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("priorities as on Linux", "priorities.c");
