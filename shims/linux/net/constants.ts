/** Socket constants of x86 (both ABIs), with the kernel's names. Sources: linux/socket.h, linux/net.h, asm-generic/socket.h, linux/{in,in6,tcp,netlink}.h. */

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
/** Families below this have numbers; socket(2) answers EAFNOSUPPORT beyond. */
export const AF_MAX = 46;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const SOCK_MAX = 11;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_TYPE_MASK = 0xf;

export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_MAX = 263;

export const SHUT_RDWR = 2;
/** Bits of `Socket.shut`. */
export const RCV_SHUTDOWN = 1;
export const SEND_SHUTDOWN = 2;
export const SHUTDOWN_MASK = 3;

export const MSG_OOB = 1;
export const MSG_PEEK = 2;
export const MSG_CTRUNC = 8;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_EOR = 0x80;
export const MSG_WAITALL = 0x100;
export const MSG_ERRQUEUE = 0x2000;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_WAITFORONE = 0x10000;
export const MSG_CMSG_CLOEXEC = 0x4000_0000;
/** Set by the 32-bit calls inside the kernel; from user space EINVAL. */
export const MSG_CMSG_COMPAT = 0x8000_0000;

export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
export const SCM_CREDENTIALS = 2;
/** Most descriptors in one message (net/scm.h). */
export const SCM_MAX_FD = 253;

export const POLLRDHUP = 0x2000;
export const POLLWRBAND = 0x200;

export const SIOCOUTQ = 0x5411;
export const SIOCATMARK = 0x8905;
export const SIOCGIFNAME = 0x8910;
export const SIOCGIFCONF = 0x8912;
export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCGIFADDR = 0x8915;
export const SIOCSIFADDR = 0x8916;
export const SIOCGIFNETMASK = 0x891b;
export const SIOCSIFNETMASK = 0x891c;
export const SIOCGIFMTU = 0x8921;
export const SIOCGIFHWADDR = 0x8927;
export const SIOCGIFINDEX = 0x8933;

/** net.core.{r,w}mem_default and _max, net.core.somaxconn, net.unix.max_dgram_qlen of the kernel that was compared with. */
export const BUFFER_DEFAULT = 212_992;
export const BUFFER_MAX = 212_992;
export const SOMAXCONN = 4096;
export const MAX_DGRAM_QLEN = 10;

/** States of TCP (net/tcp_states.h). */
export const TcpState = { established: 1, connecting: 2, closed: 7, listening: 10 } as const;
/** What a datagram takes of the sender's buffer beside its bytes. */
export const DATAGRAM_OVERHEAD = 32;
