/**
 * The authority's own keys, as its operator sees them: what the signer's configuration holds, and what trustees have put
 * into force. Making a key is the operator's to do; that it counts is the trustees'.
 */
import { randomBytes } from "node:crypto";
import { generateKeys, type KeysReference } from "@viafabric/hsm";
import {
  formatSignerConfig,
  type PinnedKey,
  readSignerConfig,
  SIGNER_KEYS,
  type SignerConfig,
  type SignerKey,
} from "@viafabric/hsm/signer";
import { lockFolder, PRIVATE_FILE, writeFileDurable } from "@viafabric/platform";
import {
  type Algorithm,
  equalBytes,
  type KeyClass,
  OperationError,
  type PublicKey,
  type Role,
  utf8,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import type { TrustedState } from "@viafabric/tuf";
import type { Home } from "./home.ts";
import { ROTATED_BY_TARGETS } from "./trust-change.ts";

/** Every role but the log's: a log keeps its key for ever. */
export const ROTATED_KEYS = [...ROTATED_BY_TARGETS, "snapshot", "timestamp"] as const;
export type RotatedKey = (typeof ROTATED_KEYS)[number];

/** Random, so that a token which holds other keys is not disturbed and a crash before the end costs a name only. */
const KEY_ID_BYTES = 8;

export interface HeldKey extends PinnedKey {
  readonly role: SignerKey;
  /** Unix seconds between which trust files let it sign; undefined when they do not name it. */
  readonly listed: { readonly from: number; readonly until: number } | undefined;
}

/** Every key of the configuration, and what the published trust files say of it. */
export function heldKeys(config: SignerConfig, trusted: TrustedState): readonly HeldKey[] {
  return SIGNER_KEYS.flatMap((role) =>
    config.keys[role].map((key) => ({ ...key, role, listed: listing(role, key.publicKey, trusted) })),
  );
}

function listing(role: SignerKey, key: PublicKey, trusted: TrustedState): HeldKey["listed"] {
  const entry = trusted.keys.find((known) => known.purpose === role && equalBytes(known.key.kid, key.kid));
  if (entry) return { from: entry.from, until: entry.until };
  const [until, keys] = roleOf(role, trusted);
  return keys.some((known) => equalBytes(known.spki, key.spki)) ? { from: 0, until } : undefined;
}

/** The keys of a TUF role, and when the file that names them expires. */
function roleOf(role: SignerKey, { root, targets, policyText, expires }: TrustedState): [number, Role["keys"]] {
  if (role === "snapshot" || role === "timestamp") return [expires.root, root.roles[role].keys];
  if (role === "log") return [expires.targets, parsePolicy(utf8(policyText)).logs.map(({ verifier }) => verifier.key)];
  const delegated = targets.delegations.filter(({ name }) => name === role);
  return [expires.targets, delegated.flatMap((delegation) => delegation.role.keys)];
}

/** SoftHSM keeps its keys in files, whatever its interface: a ceremony does not call them hardware. */
export function classOf(keys: KeysReference): KeyClass {
  return "software" in keys || /softhsm/i.test(keys.module) ? "software" : "hardware";
}

/**
 * Makes a key beside those of the role and writes it into the signer's configuration. The ones before stay, in the token
 * and in the configuration: what they signed must be signed the same way again after a crash.
 */
export async function makeKey(home: Home, role: RotatedKey, algorithm: Algorithm): Promise<PinnedKey> {
  const unlock = await lockFolder(home.signer, "keys.lock");
  try {
    const config = await readSignerConfig(home.signerConfig);
    const id = new Uint8Array(randomBytes(KEY_ID_BYTES));
    const [publicKey] = await generateKeys(config.hsm, [{ id, label: `viafabric ${role}`, algorithm }]);
    const key = { id, publicKey: publicKey! };
    const keys = { ...config.keys, [role]: [...config.keys[role], key] };
    // The signer reads it again when trust files come, so it need not be told, nor started again.
    await writeFileDurable(home.signerConfig, formatSignerConfig({ ...config, keys }), PRIVATE_FILE);
    return key;
  } finally {
    await unlock();
  }
}

/**
 * The key that takes over next: one that was made and that no trust file names yet, or a new one. So a rotation that
 * died after its key was made goes on with that key.
 */
export async function successorOf(
  home: Home,
  role: RotatedKey,
  algorithm: Algorithm,
  trusted: TrustedState,
): Promise<PinnedKey> {
  const config = await readSignerConfig(home.signerConfig);
  const waiting = heldKeys(config, trusted).findLast((key) => key.role === role && !key.listed);
  if (waiting && waiting.publicKey.algorithm !== algorithm)
    throw new OperationError("ERR_USAGE", `the ${role} key that waits is ${waiting.publicKey.algorithm}`);
  return waiting ?? makeKey(home, role, algorithm);
}
