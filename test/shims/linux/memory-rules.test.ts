// Locks, seals, advice for oneself and for others, file pages mapped elsewhere: each call with its result or errno.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("memory that is locked, sealed or advised as on Linux", "memory-rules.c");
