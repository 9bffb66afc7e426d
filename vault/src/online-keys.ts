/**
 * The authority's own keys, as its operator sees them: what the signer's configuration holds, and what trustees have put
 * into force. Making a key is the operator's to do; that it counts is the trustees'.
 */
import { randomBytes } from "node:crypto";
import { type CeremonyKey, performCeremony } from "@viafabric/hsm";
import {
  formatSignerConfig,
  type PinnedKey,
  readSignerConfig,
  SIGNER_KEYS,
  type SignerConfig,
  type SignerKey,
} from "@viafabric/hsm/signer";
import { lockFolder, PRIVATE_FILE, VERSION, writeFileDurable } from "@viafabric/platform";
import {
  type Algorithm,
  decodeTranscript,
  equalBytes,
  type KeyClass,
  OperationError,
  type PublicKey,
  type Role,
  type Transcript,
  type TranscriptAction,
  utf8,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import type { TrustedState } from "@viafabric/tuf";
import type { Home } from "./home.ts";
import { keepTranscript, nextTranscript } from "./transcripts.ts";
import { ROTATED_BY_TARGETS } from "./trust-change.ts";

/** Every role but the log's: a log keeps its key for ever. */
export const ROTATED_KEYS = [...ROTATED_BY_TARGETS, "snapshot", "timestamp"] as const;
export type RotatedKey = (typeof ROTATED_KEYS)[number];

export const TOOL = `via vault ${VERSION}`;

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

/** Under which authority a ceremony is held, when, and what the operator calls the token. */
export interface Ceremony {
  readonly authority: Uint8Array;
  readonly now: number;
  readonly keyClass?: KeyClass;
  /** In place of the one that the signer's configuration names: of a service, only the service can read it. */
  readonly pinFile?: string;
  /** In place of any file: what a person typed. */
  readonly pin?: string;
}

/**
 * Makes a key beside those of the role and writes it into the signer's configuration. The ones before stay, in the token
 * and in the configuration: what they signed must be signed the same way again after a crash.
 * @returns the transcript, which is kept
 */
export async function makeKey(
  home: Home,
  role: RotatedKey,
  algorithm: Algorithm,
  ceremony: Ceremony,
): Promise<Transcript> {
  return withKeys(home, async (config) => {
    const id = new Uint8Array(randomBytes(KEY_ID_BYTES));
    const bytes = await hold(home, config, "generate", [{ role, id, make: algorithm }], ceremony);
    const transcript = await keepTranscript(home.transcripts, bytes);
    const keys = { ...config.keys, [role]: [...config.keys[role], { id, publicKey: transcript.keys[0]!.key }] };
    // The signer reads it again when trust files come, so it need not be told, nor started again.
    await writeFileDurable(home.signerConfig, formatSignerConfig({ ...config, keys }), PRIVATE_FILE);
    return transcript;
  });
}

/**
 * Looks at every key of the configuration where it is kept: attributes, public half, a signature by each.
 * @param keep writes it down as a transcript to be logged
 * @throws OperationError ERR_HSM_KEY for the first key that is not as it must be
 */
export async function checkKeys(home: Home, ceremony: Ceremony, keep: boolean): Promise<Transcript> {
  return withKeys(home, async (config) => {
    const keys = SIGNER_KEYS.flatMap((role) =>
      config.keys[role].map(({ id, publicKey }) => ({ role, id, expected: publicKey })),
    );
    const bytes = await hold(home, config, "check", keys, ceremony);
    return keep ? keepTranscript(home.transcripts, bytes) : decodeTranscript(bytes);
  });
}

async function hold(
  home: Home,
  { hsm }: SignerConfig,
  action: TranscriptAction,
  keys: readonly CeremonyKey[],
  { authority, now, keyClass, pinFile, pin }: Ceremony,
): Promise<Uint8Array> {
  const number = await nextTranscript(home.transcripts);
  const asked = keyClass && { class: keyClass };
  const given = { ...(pinFile !== undefined && { pinFile }), ...(pin !== undefined && { pin }) };
  const token = "software" in hsm ? hsm : { ...hsm, ...given };
  return performCeremony(token, { authority, number, made: now, action, tool: TOOL, ...asked, keys });
}

/** One at a time: numbers of transcripts are given once, and no key is lost from the configuration. */
async function withKeys<T>(home: Home, work: (config: SignerConfig) => Promise<T>): Promise<T> {
  const unlock = await lockFolder(home.signer, "keys.lock");
  try {
    return await work(await readSignerConfig(home.signerConfig));
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
  ceremony: Ceremony,
): Promise<{ readonly key: PublicKey; readonly class: KeyClass }> {
  const config = await readSignerConfig(home.signerConfig);
  const waiting = heldKeys(config, trusted).findLast((key) => key.role === role && !key.listed);
  if (!waiting) {
    const { keys, class: made } = await makeKey(home, role, algorithm, ceremony);
    return { key: keys[0]!.key, class: made };
  }
  if (waiting.publicKey.algorithm !== algorithm)
    throw new OperationError("ERR_USAGE", `the ${role} key that waits is ${waiting.publicKey.algorithm}`);
  return { key: waiting.publicKey, class: (await checkKeys(home, ceremony, false)).class };
}
