import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("the kernel's log, quotas, rebooting and what epoll watches, as on Linux", "administration.c");
