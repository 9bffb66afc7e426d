/** What a verifier holds to be true: verified TUF metadata and the files under it, as plain values. */
import type { Head, KeyClass, KeyEntry, Role, Rules } from "@viafabric/schemas";
import type { LogPolicy } from "@viafabric/transparency-log";

export interface Trust {
  readonly authority: Uint8Array;
  /** Who signs status events: the targets role of the current root. */
  readonly trustees: Role;
  readonly keys: readonly KeyEntry[];
  readonly rules: Rules;
  readonly policy: LogPolicy;
  readonly head: Head;
  /** Version of the TUF role `batches` that carried the head. */
  readonly batchesVersion: number;
  /** Unix seconds. */
  readonly expires: { readonly root: number; readonly targets: number; readonly batches: number };
}

const STRENGTH: Record<KeyClass, number> = { software: 0, hardware: 1 };

/** The same trust for whoever asks for more than the authority does: the keys that are used online in hardware. */
export function withHardware(trust: Trust): Trust {
  const classes = new Map([...trust.rules.classes, ["issuer", "hardware"], ["status", "hardware"]] as const);
  return { ...trust, rules: { ...trust.rules, classes } };
}

export function isSufficientClass(actual: KeyClass, minimum: KeyClass | undefined): boolean {
  return STRENGTH[actual] >= STRENGTH[minimum ?? "software"];
}
