/** /proc/net/snmp and netstat: the names that netstat -s, nstat and sar look for (net/ipv4/proc.c), none of them counted. */

const table = (protocol: string, names: string, values: readonly number[] = []): string => {
  const list = names.split(" ");
  return `${protocol}: ${names}\n${protocol}: ${list.map((_, i) => values[i] ?? 0).join(" ")}\n`;
};

const ICMP_KINDS =
  "DestUnreachs TimeExcds ParmProbs SrcQuenchs Redirects Echos EchoReps Timestamps TimestampReps AddrMasks AddrMaskReps";
const icmp = (direction: string): string =>
  ICMP_KINDS.split(" ")
    .map((kind) => direction + kind)
    .join(" ");
const UDP = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors";

export const SNMP =
  table(
    "Ip",
    "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers " +
      "OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits",
    [2, 64],
  ) +
  table(
    "Icmp",
    `InMsgs InErrors InCsumErrors ${icmp("In")} OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost ${icmp("Out")}`,
  ) +
  table(
    "Tcp",
    "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs " +
      "RetransSegs InErrs OutRsts InCsumErrors",
    [1, 200, 120_000, -1],
  ) +
  table("Udp", UDP) +
  table("UdpLite", UDP);

export const NETSTAT =
  table(
    "TcpExt",
    "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps " +
      "LockDroppedIcmps ArpFilter TW TWRecycled TWKilled DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows " +
      "ListenDrops TCPHPHits TCPPureAcks TCPHPAcks TCPTimeouts TCPAbortOnData TCPAbortOnClose TCPAbortOnTimeout TCPFastOpenActive",
  ) +
  table(
    "IpExt",
    "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets " +
      "OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps",
  );
