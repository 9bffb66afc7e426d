/**
 * Who signs, from a trustee's side: joining an authority that exists, and asking for a rotation.
 *
 * Whoever joins pins the authority as a node does, by a trusted hand or by two channels; from then on their tool
 * follows the published roots itself and reviews the rotation that lets them in like everybody else. A rotation may be
 * asked for by a trustee, because the one who holds a lost or moving key knows of it first, and by an operator, because
 * whoever asks may not be among those who approve. Either way nothing changes before the quorums have signed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { equalBytes, formatBase64, formatHex, OperationError, VerificationError } from "@viafabric/schemas";
import {
  authorityOf,
  type EnrolmentCard,
  parseMetadata,
  type Root,
  verifyEnrolmentCard,
  verifyRootChain,
} from "@viafabric/tuf";
import { openVault, type Secret, type Session } from "./commands.ts";
import { type Home, openSigner, readOwnKey, writeFirstRoot } from "./home.ts";

export interface Pinned {
  readonly authority: Uint8Array;
  readonly root: Root;
  readonly signed: Uint8Array;
}

/** @param file root v1, of whatever origin. @throws VerificationError ERR_THRESHOLD, ERR_AUTHORITY; FormatError */
export function readPin(file: Uint8Array): Pinned {
  verifyRootChain({ file }, []);
  const { signed, signedBytes } = parseMetadata("root", file);
  return { authority: authorityOf(signedBytes), root: signed, signed: signedBytes };
}

/** Once, after a person agreed. @throws OperationError ERR_HOME for a home of another authority, or without a key */
export async function join(home: Home, { signed }: Pinned): Promise<void> {
  await readOwnKey(home);
  await writeFirstRoot(home, signed);
}

export interface RotationWish {
  /** Card files of those who join. */
  readonly add: readonly Uint8Array[];
  /** Kids of those who leave. */
  readonly remove: readonly Uint8Array[];
  /** This trustee's own next key, in the place of the one that signs the request. */
  readonly newCard?: Uint8Array;
  readonly threshold?: number;
}

const POLL_MILLISECONDS = 500;

/**
 * Asks the vault to draw it up. The request is signed with the present key: that, and the proof on the card, is what
 * ties an old key to a new one.
 * @returns the id of the rotation. @throws VerificationError ERR_TRUST_CHANGE when the vault refused; OperationError ERR_TIMEOUT
 */
export async function requestRotation(
  session: Session,
  wish: RotationWish,
  passphrase: Secret,
  secondsMax: number,
): Promise<Uint8Array> {
  const own = await readOwnKey(session.home);
  const cards = [...wish.add, ...(wish.newCard ? [wish.newCard] : [])].map(trusteeCard);
  if (wish.newCard && cards.some(({ key }) => equalBytes(key.kid, own.kid)))
    throw new OperationError("ERR_USAGE", "the new card is of the key that you have; make a new one with init");
  const remove = [...wish.remove, ...(wish.newCard ? [own.kid] : [])];
  if (cards.length + remove.length === 0 && wish.threshold === undefined)
    throw new OperationError("ERR_USAGE", "nothing would change: name --add, --remove, --new-card or --threshold");
  const vault = await openVault(session);
  const signer = await openSigner(session.home, await passphrase());
  const request = await vault.requestRotation(signer, {
    add: cards.map(({ bytes }) => formatBase64(bytes)),
    remove: remove.map(formatHex),
    ...(wish.threshold !== undefined && { threshold: wish.threshold }),
  });
  for (const deadline = Date.now() + secondsMax * 1000; ; await sleep(POLL_MILLISECONDS)) {
    const { event, refusal } = await vault.request(request);
    if (refusal !== undefined) throw new VerificationError("ERR_TRUST_CHANGE", refusal);
    if (event) return event;
    if (Date.now() >= deadline)
      throw new OperationError("ERR_TIMEOUT", `no proposal within ${secondsMax} seconds`, { retryable: true });
  }
}

function trusteeCard(bytes: Uint8Array): EnrolmentCard {
  const card = verifyEnrolmentCard(bytes);
  if (card.role !== "trustee") throw new OperationError("ERR_USAGE", `the card of ${card.name} is of a ${card.role}`);
  return card;
}
