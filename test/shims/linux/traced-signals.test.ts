import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("signals that come while a tracer has stopped a call", "traced-signals.c");
