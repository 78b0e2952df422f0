// Capabilities as they are set, as they follow user ids and as programs get them, each step with the sets that come of it.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("capabilities as on Linux", "capabilities.c");
