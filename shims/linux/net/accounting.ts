import { PAGE } from "../memory/pages.ts";

/**
 * What a message costs of a socket's buffer. Linux charges the memory a message takes, not its bytes (`truesize`): a program that
 * fills a socket sees after how many messages it is full. The sizes are those of a 64-bit kernel (linux/skbuff.h).
 */

const SHARED_INFO = 320;
const SK_BUFF = 256;
const SMALLEST = 512;
/** Payload that fits the first page beside the shared info (SKB_MAX_HEAD), and four pages (SKB_MAX_ALLOC). */
const MAX_HEAD = PAGE - SHARED_INFO;
const MAX_ALLOC = 4 * PAGE - SHARED_INFO;
const MAX_FRAGMENTS = 17;
/** A stream's message is cut into pieces of this. */
const STREAM_PIECE = MAX_HEAD + 32_768;

function head(bytes: number): number {
  const needed = Math.ceil(bytes / 64) * 64 + SHARED_INFO;
  let bucket = SMALLEST;
  while (bucket < needed) bucket *= 2;
  return bucket + SK_BUFF;
}

const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;

/** How much of `bytes` an AF_UNIX stream puts into one piece (unix_stream_sendmsg). */
export function streamPiece(bytes: number, sendBuffer: number): number {
  return Math.min(bytes, Math.max(Math.floor(sendBuffer / 2) - 64, 1), STREAM_PIECE);
}

export function streamCost(bytes: number): number {
  const data = bytes <= MAX_HEAD ? 0 : Math.min(bytes, pages(bytes - MAX_HEAD));
  return head(bytes - data) + pages(data);
}

/** unix_dgram_sendmsg. */
export function datagramCost(bytes: number): number {
  const data = bytes <= MAX_ALLOC ? 0 : Math.min(pages(Math.min(bytes - MAX_ALLOC, MAX_FRAGMENTS * PAGE)), bytes);
  return head(bytes - data) + pages(data);
}

/** Room for Ethernet, IP and UDP headers in front of the payload. */
const HEADERS = 64;
/** Small messages come from a cache of their own. */
const SMALL_COST = 832;

export function udpCost(bytes: number): number {
  const all = bytes + HEADERS;
  if (all <= 256) return SMALL_COST;
  return all <= MAX_HEAD ? head(all) : head(HEADERS) + pages(bytes);
}
