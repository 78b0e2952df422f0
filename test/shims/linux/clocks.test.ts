// adjtimex and clock_adjtime as a user without privileges sees them.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("the state of clocks as on Linux", "clocks.c");
