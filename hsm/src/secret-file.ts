/** A PIN or passphrase in a file, with an error of ours. */
import { OperationError } from "@viafabric/schemas";
import { readSecret } from "./secret.ts";

/** @throws OperationError ERR_HSM_PIN when it is missing, empty, or others can read it */
export function readSecretFile(file: string): string {
  try {
    return readSecret(file);
  } catch (cause) {
    throw new OperationError("ERR_HSM_PIN", cause instanceof Error ? cause.message : "", { cause });
  }
}
