import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("set-user-ID and set-group-ID programs", "set-ids.c");
