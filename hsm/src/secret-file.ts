/** A PIN or passphrase in a file: one line, which nobody but its owner can read. */
import { stat } from "node:fs/promises";
import { readFileBounded } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";

/** A larger file is not a PIN file. */
const SECRET_BYTES_MAX = 256;

/** @throws OperationError ERR_HSM_PIN when it is empty or others can read it */
export async function readSecretFile(file: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found && (found.mode & 0o077) !== 0)
    throw new OperationError("ERR_HSM_PIN", `others can read the PIN file ${file}: chmod 600 it`);
  const bytes = await readFileBounded(file, SECRET_BYTES_MAX).catch((cause: unknown) => {
    throw new OperationError("ERR_HSM_PIN", `the PIN file ${file} cannot be read`, { cause });
  });
  const secret = Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
  if (secret.length === 0) throw new OperationError("ERR_HSM_PIN", `the PIN file ${file} is empty`);
  return secret;
}
