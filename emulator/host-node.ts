import { loadNative } from "./native.ts";

/**
 * Makes a FIFO or a socket's name on the host, as mkfifo(3) and mknod(2) do.
 * @param path bytes as latin1 characters are given as a buffer
 * @param mode S_IFIFO or S_IFSOCK and permission bits
 * @throws Error whose `code` is the errno's name, as of Node's own calls
 */
export function makeHostNode(path: string | Buffer, mode: number): void {
  loadNative().makeNode(Buffer.from(path), mode);
}
