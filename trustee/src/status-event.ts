/** Status events that a trustee proposes or joins: which indices, what happens to them, until when it may be logged. */
import {
  type Action,
  decodeEventBody,
  EVENT_CONTEXT,
  EVENT_RANGES_MAX,
  EVENT_REASON_LENGTH_MAX,
  type EventBody,
  encodeEventBody,
  equalBytes,
  formatHex,
  INDEX_MAX,
  type IndexRange,
  OperationError,
  parseDecimal,
  quote,
  type Signer,
  sha256,
  signingInput,
  VerificationError,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";

/** Long enough for three people on three continents to answer. */
export const EVENT_SECONDS = 7 * 86_400;

export interface StatusWish {
  readonly action: Action;
  readonly ranges: readonly IndexRange[];
  readonly reason: string;
  /** Leaf indices of the events that a reinstatement undoes. */
  readonly undoes: readonly number[];
}

/** `5,7-9,12`: indices and ranges, in any order. @throws OperationError ERR_USAGE */
export function parseIndices(text: string): readonly IndexRange[] {
  try {
    const ranges = text.split(",").map((part) => {
      const [from, to = from, ...more] = part.trim().split("-");
      const [first, last] = [parseDecimal(from!, INDEX_MAX), parseDecimal(to!, INDEX_MAX)];
      if (last < first || more.length > 0) throw new RangeError(part);
      return { first, count: last - first + 1 };
    });
    return merged(ranges);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", `not indices such as 5,7-9: ${quote(text)}`, { cause });
  }
}

/** Ascending, and joined where they touch or overlap. */
function merged(ranges: readonly IndexRange[]): readonly IndexRange[] {
  const out: IndexRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const last = out.at(-1);
    if (last && range.first <= last.first + last.count) {
      const end = Math.max(last.first + last.count, range.first + range.count);
      out[out.length - 1] = { first: last.first, count: end - last.first };
    } else out.push(range);
  }
  if (out.length > EVENT_RANGES_MAX) throw new RangeError(`more than ${EVENT_RANGES_MAX} ranges`);
  return out;
}

/**
 * @param nonce 16 random bytes. @param now unix seconds
 * @throws VerificationError ERR_EVENT_RANGE for indices that no approved batch can hold; OperationError ERR_USAGE
 */
export function createEventBody(wish: StatusWish, trust: TrustedState, nonce: Uint8Array, now: number): Uint8Array {
  const reason = wish.reason.trim();
  if (reason.length === 0 || reason.length > EVENT_REASON_LENGTH_MAX)
    throw new OperationError("ERR_USAGE", `give a reason of 1 to ${EVENT_REASON_LENGTH_MAX} characters`);
  assertKnownIndices(wish.ranges, trust);
  const { authority } = trust;
  const body = encodeEventBody({ ...wish, reason, authority, notAfter: now + EVENT_SECONDS, nonce });
  decodeEventBody(body);
  return body;
}

/** @throws VerificationError ERR_PROPOSAL_MISMATCH, ERR_AUTHORITY, ERR_EVENT_RANGE, ERR_PROPOSAL_CLOSED; FormatError ERR_EVENT */
export function reviewEventBody(id: Uint8Array, bytes: Uint8Array, trust: TrustedState, now: number): EventBody {
  if (!equalBytes(sha256(bytes), id))
    throw new VerificationError("ERR_PROPOSAL_MISMATCH", `the body sent is not that of event ${formatHex(id)}`);
  const body = decodeEventBody(bytes);
  if (!equalBytes(body.authority, trust.authority))
    throw new VerificationError("ERR_AUTHORITY", "the status event is of another authority");
  // A release says that tags arrived; who writes or revokes must not be who says so.
  if (body.action === "release")
    throw new VerificationError("ERR_PROPOSAL_POLICY", "releases are signed by release officers, not by trustees");
  if (body.notAfter < now) throw new VerificationError("ERR_PROPOSAL_CLOSED", "the time to log this event is over");
  assertKnownIndices(body.ranges, trust);
  return body;
}

export function signEventBody(signer: Signer, authority: Uint8Array, body: Uint8Array): Promise<Uint8Array> {
  return signer.sign(signingInput(EVENT_CONTEXT, authority, body));
}

/** `5`, `7-9`. */
export function formatRanges(ranges: readonly IndexRange[]): string {
  return ranges.map(({ first, count }) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`)).join(", ");
}

function assertKnownIndices(ranges: readonly IndexRange[], { head }: TrustedState): void {
  const last = ranges.at(-1);
  if (last && last.first + last.count > head.next)
    throw new VerificationError(
      "ERR_EVENT_RANGE",
      `index ${last.first + last.count - 1} is not approved yet: the next is ${head.next}`,
    );
}
