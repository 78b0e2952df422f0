/** Every system call there is a row for. */
import { i386, x86_64 } from "../abi.ts";
import { type Row, SyscallTable } from "../table.ts";
import { administrationCalls } from "./administration.ts";
import { aioCalls } from "./aio.ts";
import { attributeCalls } from "./attributes.ts";
import { capabilityCalls } from "./capabilities.ts";
import { clockAdjustCalls } from "./clock-adjust.ts";
import { cloneCalls } from "./clone.ts";
import { directoryCalls } from "./directory.ts";
import { epollCalls } from "./epoll.ts";
import { extendedAttributeCalls } from "./extended-attributes.ts";
import { fcntlCalls } from "./fcntl.ts";
import { fdCalls } from "./fd.ts";
import { fileCalls } from "./file.ts";
import { futexCalls } from "./futex.ts";
import { futex2Calls } from "./futex2.ts";
import { handleCalls } from "./handles.ts";
import { idCalls } from "./ids.ts";
import { inotifyCalls } from "./inotify.ts";
import { ioctlCalls } from "./ioctl.ts";
import { madviseCalls } from "./madvise.ts";
import { memoryCalls } from "./memory.ts";
import { memoryLockCalls } from "./memory-lock.ts";
import { memoryPolicyCalls } from "./memory-policy.ts";
import { memorySealCalls } from "./memory-seal.ts";
import { mountCalls } from "./mount.ts";
import { mqueueCalls } from "./mqueue.ts";
import { namespaceCalls } from "./namespaces.ts";
import { openCalls } from "./open.ts";
import { pathCalls } from "./path.ts";
import { pidfdCalls } from "./pidfd.ts";
import { pollCalls } from "./poll.ts";
import { prctlCalls } from "./prctl.ts";
import { priorityCalls } from "./priority.ts";
import { processCalls } from "./process.ts";
import { ptraceCalls } from "./ptrace.ts";
import { remapCalls } from "./remap.ts";
import { seccompCalls } from "./seccomp.ts";
import { signalCalls } from "./signal.ts";
import { signalSendCalls } from "./signal-send.ts";
import { signalWaitCalls } from "./signal-wait.ts";
import { socketCalls } from "./socket.ts";
import { socketMessageCalls } from "./socket-message.ts";
import { statCalls } from "./stat.ts";
import { systemCalls } from "./system.ts";
import { messageQueueCalls } from "./sysv-msg.ts";
import { semaphoreCalls } from "./sysv-sem.ts";
import { sharedMemoryCalls } from "./sysv-shm.ts";
import { ipcCalls } from "./sysvipc.ts";
import { threadCalls } from "./thread.ts";
import { timeCalls } from "./time.ts";
import { timerCalls } from "./timer.ts";
import { timerfdCalls } from "./timerfd.ts";
import { tlsCalls } from "./tls.ts";
import { transferCalls } from "./transfer.ts";
import { waitCalls } from "./wait.ts";

const rows: readonly Row[] = [
  ...administrationCalls,
  ...aioCalls,
  ...attributeCalls,
  ...extendedAttributeCalls,
  ...capabilityCalls,
  ...clockAdjustCalls,
  ...cloneCalls,
  ...directoryCalls,
  ...epollCalls,
  ...fcntlCalls,
  ...fdCalls,
  ...fileCalls,
  ...futexCalls,
  ...futex2Calls,
  ...idCalls,
  ...handleCalls,
  ...inotifyCalls,
  ...ioctlCalls,
  ...memoryCalls,
  ...madviseCalls,
  ...memoryLockCalls,
  ...memoryPolicyCalls,
  ...memorySealCalls,
  ...mqueueCalls,
  ...namespaceCalls,
  ...openCalls,
  ...mountCalls,
  ...pathCalls,
  ...pidfdCalls,
  ...pollCalls,
  ...prctlCalls,
  ...priorityCalls,
  ...processCalls,
  ...ptraceCalls,
  ...seccompCalls,
  ...remapCalls,
  ...signalCalls,
  ...signalSendCalls,
  ...signalWaitCalls,
  ...socketCalls,
  ...socketMessageCalls,
  ...statCalls,
  ...systemCalls,
  ...messageQueueCalls,
  ...semaphoreCalls,
  ...sharedMemoryCalls,
  ...ipcCalls,
  ...threadCalls,
  ...timeCalls,
  ...timerCalls,
  ...timerfdCalls,
  ...tlsCalls,
  ...transferCalls,
  ...waitCalls,
];

/** The table of a kernel with all calls. */
export function fullTable(): SyscallTable {
  return new SyscallTable(rows, [x86_64, i386]);
}
