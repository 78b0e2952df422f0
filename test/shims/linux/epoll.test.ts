// epoll, timerfd and signalfd, each operation with its result or errno, against this machine's kernel.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("epoll, timerfd and signalfd as on Linux", "epoll.c");
