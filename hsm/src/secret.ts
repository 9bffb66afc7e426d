/** A PIN or passphrase in a file: one line, which nobody but its owner can read. Imports nothing of the house. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** A larger file is not a PIN file. */
const SECRET_BYTES_MAX = 256;

/** @throws Error, in words for a person and without the secret */
export function readSecret(file: string): string {
  const bytes = Buffer.alloc(SECRET_BYTES_MAX + 1);
  const length = readInto(bytes, file);
  if (length > SECRET_BYTES_MAX) throw new Error(`the PIN file ${file} cannot be read: it is too large`);
  const secret = bytes.toString("utf8", 0, length).replace(/\r?\n$/, "");
  bytes.fill(0);
  if (secret.length === 0) throw new Error(`the PIN file ${file} is empty`);
  return secret;
}

/** One open file is asked for its mode and read, so that it cannot be exchanged in between. */
function readInto(bytes: Buffer, file: string): number {
  let handle: number;
  try {
    handle = openSync(file, "r");
  } catch (cause) {
    throw new Error(`the PIN file ${file} cannot be read`, { cause });
  }
  try {
    const found = fstatSync(handle);
    if ((found.mode & 0o077) !== 0) throw new Error(`others can read the PIN file ${file}: chmod 600 it`);
    if (!found.isFile()) throw new Error(`the PIN file ${file} cannot be read: it is no file`);
    return readSync(handle, bytes, 0, bytes.length, 0);
  } finally {
    closeSync(handle);
  }
}
