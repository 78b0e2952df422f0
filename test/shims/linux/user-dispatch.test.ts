import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("system calls that become signals (PR_SET_SYSCALL_USER_DISPATCH)", "user-dispatch.c");
