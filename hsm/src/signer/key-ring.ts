/**
 * The keys that a signer holds, opened: every one that its configuration pins, each checked against its public half.
 *
 * Which of them signs is not the configuration's to say but the trustees': of the keys held, the one that the trusted
 * state has put into force. So a key may be made and held long before anybody trusts it, and nothing has to happen at
 * the same moment in two places.
 */
import {
  equalBytes,
  findKey,
  type KeyEntry,
  kidText,
  newestKey,
  OperationError,
  type PublicKey,
  type Purpose,
  type Role,
  type Signer,
  VerificationError,
} from "@viafabric/schemas";
import type { Hsm } from "../index.ts";
import type { SigningPool } from "../pool.ts";
import { type PinnedKey, SIGNER_KEYS, type SignerKey, type SignerKeys } from "./config.ts";

/** What trustees list by purpose in trust/keys.cbor, and what stands in a TUF role. */
export type ListedKey = Extract<SignerKey, Purpose>;

export class KeyRing {
  readonly #hsm: Hsm;
  readonly #workers: number | undefined;
  readonly #signers = new Map<string, Signer>();
  #keys: SignerKeys;
  #pool: SigningPool | undefined;

  private constructor(hsm: Hsm, keys: SignerKeys, workers: number | undefined) {
    this.#hsm = hsm;
    this.#keys = keys;
    this.#workers = workers;
  }

  /** @param workers threads that sign tokens; undefined to find out how many are of use. @throws OperationError ERR_HSM_KEY */
  static async open(hsm: Hsm, keys: SignerKeys, workers: number | undefined): Promise<KeyRing> {
    const ring = new KeyRing(hsm, keys, workers);
    await ring.hold(keys);
    // The newest is the one that the next batch most likely asks for.
    await ring.issuer(keys.issuer.at(-1)!.publicKey);
    return ring;
  }

  /** Opens keys that came in since. @throws OperationError ERR_HSM_KEY; ERR_SIGNER_CONFIG for another log key */
  async hold(keys: SignerKeys): Promise<void> {
    if (!equalBytes(keys.log[0]!.publicKey.spki, this.log.spki))
      throw new OperationError("ERR_SIGNER_CONFIG", "the log's key has changed, and a log keeps its key for ever");
    for (const { id, publicKey } of SIGNER_KEYS.flatMap((name): readonly PinnedKey[] => keys[name])) {
      if (this.#signers.has(kidText(publicKey))) continue;
      // The threads may hold every session that was free when they started.
      await this.#endPool();
      this.#signers.set(kidText(publicKey), await this.#hsm.signer(id, publicKey));
    }
    this.#keys = keys;
  }

  get log(): PublicKey {
    return this.#keys.log[0]!.publicKey;
  }

  held(role: SignerKey): readonly PublicKey[] {
    return this.#keys[role].map(({ publicKey }) => publicKey);
  }

  signer(key: PublicKey): Signer {
    return this.#signers.get(kidText(key))!;
  }

  /** Threads for an issuer key. One key at a time has them: sessions are scarce, and batches are signed one by one. */
  async issuer(key: PublicKey): Promise<SigningPool> {
    if (this.#pool && equalBytes(this.#pool.publicKey.spki, key.spki)) return this.#pool;
    const { id } = this.#keys.issuer.find(({ publicKey }) => equalBytes(publicKey.spki, key.spki))!;
    await this.#endPool();
    this.#pool = await this.#hsm.pool(id, key, this.#workers);
    return this.#pool;
  }

  async #endPool(): Promise<void> {
    await this.#pool?.close();
    this.#pool = undefined;
  }
}

/** The key among `held` that trustees listed for a purpose and that became valid last. */
export function listedKey(
  held: readonly PublicKey[],
  entries: readonly KeyEntry[],
  purpose: ListedKey,
  at: number,
): PublicKey {
  const own = entries.filter(({ key }) => held.some(({ kid }) => equalBytes(kid, key.kid)));
  const found = newestKey(own, purpose, at);
  if (!found) throw refused(`no ${purpose} key held here is listed as valid at ${at}`);
  return found.key;
}

/** The key that a manifest names: it must be held, and listed as valid at `at`. */
export function namedKey(
  held: readonly PublicKey[],
  entries: readonly KeyEntry[],
  purpose: ListedKey,
  kid: Uint8Array,
  at: number,
): PublicKey {
  const key = held.find((own) => equalBytes(own.kid, kid));
  if (!key) throw refused(`the manifest names another ${purpose} key than this signer's`);
  if (!findKey(entries, kid, purpose, at)) throw refused(`the ${purpose} key is not listed as valid at ${at}`);
  return key;
}

/** The key among `held` that is one of a TUF role's; the newest, where two are. */
export function roleKey(held: readonly PublicKey[], role: Role, name: string): PublicKey {
  const key = held.findLast((own) => role.keys.some((known) => equalBytes(known.spki, own.spki)));
  if (!key) throw refused(`no ${name} key held here is one of the role`);
  return key;
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_SIGNER_KEY", reason);
}
