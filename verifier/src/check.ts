/**
 * The verdict: bytes, trusted state and a clock reading in, one closed answer out (DESIGN section 7).
 *
 * Pure and total. Any bytes give a verdict in bounded time; nothing here reads a file, a clock or a network, and no
 * state is remembered from one token to the next.
 */
import { freshnessOf } from "@viafabric/revocation";
import {
  COMPACT_BYTES,
  CodedError,
  type CompactToken,
  decodeCompact,
  decodeToken,
  equalBytes,
  expandCompact,
  findKey,
  isValidSignature,
  type KeyEntry,
  parseDidKey,
  parseTokenJson,
  parseUtf8,
  sha256,
  signatureInput,
  TOKEN_LEAF_BYTES,
  type Token,
  type TokenBody,
} from "@viafabric/schemas";
import type { HeldBatch } from "./bundle.ts";
import type { StatusState } from "./status.ts";
import { isSufficientClass, type Trust } from "./trust.ts";
import { Refusal, type Verdict } from "./verdict.ts";

export interface NodeState {
  /** The pinned authority. */
  readonly authority: Uint8Array;
  /** Undefined when the stored metadata did not verify. */
  readonly trust: Trust | undefined;
  /** Ascending by first index. */
  readonly batches: readonly HeldBatch[];
  readonly status: StatusState | undefined;
  /** Unix seconds that are proven to have passed: the clock may not run behind them. */
  readonly clockFloor: number;
}

/** @param now unix seconds by the node's own clock */
export function checkToken(bytes: Uint8Array, state: NodeState, now: number): Verdict {
  let index: number | undefined;
  try {
    const presented = readToken(bytes, state);
    index = presented.index;
    const trust = liveTrust(state, now);
    const batch = heldBatch(state, presented);
    if (state.status && state.status.verified.statement.batches > trust.batchesVersion)
      throw new Refusal("head-too-old");
    const { body, payload } = expand(presented, batch);
    checkLeaf(presented, payload, batch);
    const issuer = issuerOf(trust, batch);
    checkSignature(presented, payload, issuer);
    if (batch.logRefusal) throw new Refusal(batch.logRefusal);
    checkTimes(batch, Math.max(now, state.clockFloor));
    const aging = checkStatus(trust, state, batch, presented.index, Math.max(now, state.clockFloor));
    if (now < state.clockFloor) throw new Refusal("clock-untrusted");
    const { seq, profile } = batch.manifest;
    return { code: "accept", aging, index: presented.index, batch: seq, subject: body.subject, profile };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { code: error.code, detail: error.message, ...(index === undefined ? {} : { index }) };
  }
}

/** A token as it was presented, before anything is believed. */
type Presented =
  | {
      readonly form: "compact";
      readonly index: number;
      readonly rctId: Uint8Array;
      readonly signature: Uint8Array;
      readonly compact: CompactToken;
    }
  | {
      readonly form: "full";
      readonly index: number;
      readonly rctId: Uint8Array;
      readonly signature: Uint8Array;
      readonly token: Token;
    };

function readToken(bytes: Uint8Array, state: NodeState): Presented {
  try {
    if (bytes.length === COMPACT_BYTES && bytes[0] !== 0x7b) {
      const compact = decodeCompact(bytes);
      if (!equalBytes(compact.selector, state.authority.subarray(0, 4))) throw new Refusal("unknown-authority");
      return { form: "compact", index: compact.index, rctId: compact.rctId, signature: compact.signature, compact };
    }
    // The JSON spelling is verified by encoding it again. Its algorithm is the issuer key's, and the issuer key is the
    // one its index leads to; where that fails nothing depends on it, because the kid is compared later.
    const token = decodeToken(
      bytes[0] === 0x7b ? parseTokenJson(parseUtf8(bytes), jsonAlgorithm(bytes, state)) : bytes,
    );
    const known = state.batches.length === 0 || state.batches.some((batch) => batch.manifest.iss === token.body.iss);
    if (!known) throw new Refusal("unknown-authority");
    return { form: "full", index: token.body.index, rctId: token.body.rctId, signature: token.signature, token };
  } catch (error) {
    if (error instanceof Refusal || !(error instanceof CodedError)) throw error;
    const code = error.code === "ERR_TOKEN_VERSION" ? "unsupported-version" : "malformed";
    throw new Refusal(code, error.message, { cause: error });
  }
}

function jsonAlgorithm(bytes: Uint8Array, state: NodeState): "ed25519" | "p256" {
  const token = decodeToken(parseTokenJson(parseUtf8(bytes), "ed25519"));
  return state.trust?.keys.find((entry) => equalBytes(entry.key.kid, token.kid))?.key.algorithm ?? "ed25519";
}

function liveTrust(state: NodeState, now: number): Trust {
  const { trust } = state;
  if (!trust || !equalBytes(trust.authority, state.authority)) throw new Refusal("trust-invalid");
  const { root, targets, batches } = trust.expires;
  if (Math.max(now, state.clockFloor) >= Math.min(root, targets, batches)) throw new Refusal("trust-expired");
  return trust;
}

function heldBatch(state: NodeState, presented: Presented): HeldBatch {
  let low = 0;
  let high = state.batches.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (state.batches[middle]!.manifest.first <= presented.index) low = middle + 1;
    else high = middle;
  }
  const batch = state.batches[low - 1];
  const held = batch && presented.index < batch.manifest.first + batch.manifest.count;
  if (!held) throw new Refusal("batch-not-held", `no held bundle covers index ${presented.index}`);
  return batch;
}

/** What was signed, according to the manifest: for a full token it must be what the token says itself. */
function expand(presented: Presented, { manifest }: HeldBatch): { body: TokenBody; payload: Uint8Array } {
  if (presented.form === "compact") return expandCompact(presented.compact, manifest);
  const { token, rctId, index, signature } = presented;
  let subjectKey: Uint8Array;
  try {
    subjectKey = parseDidKey(token.body.subject);
  } catch (cause) {
    throw new Refusal("subject-unsupported", `subject ${token.body.subject.slice(0, 80)}`, { cause });
  }
  return expandCompact({ selector: manifest.authority, rctId, subjectKey, index, signature }, manifest);
}

/** One read and compare: the bundle as a whole was proven when it was taken in. */
function checkLeaf(presented: Presented, payload: Uint8Array, { manifest, leaves }: HeldBatch): void {
  const at = (presented.index - manifest.first) * TOKEN_LEAF_BYTES;
  const leaf = leaves.subarray(at, at + TOKEN_LEAF_BYTES);
  // The id first: a foreign id is another refusal than a foreign claim.
  if (!equalBytes(leaf.subarray(9, 41), sha256(presented.rctId))) throw new Refusal("leaf-mismatch");
  if (!equalBytes(leaf.subarray(41), sha256(payload))) throw new Refusal("payload-mismatch");
  if (presented.form === "full" && !equalBytes(payload, presented.token.payload)) throw new Refusal("payload-mismatch");
}

function issuerOf(trust: Trust, batch: HeldBatch): KeyEntry {
  const { issuer: kid, nbf } = batch.manifest;
  const entry = findKey(trust.keys, kid, "issuer");
  if (!entry) throw new Refusal("issuer-unknown");
  if (!findKey(trust.keys, kid, "issuer", nbf)) throw new Refusal("issuer-not-valid");
  if (!isSufficientClass(entry.class, trust.rules.classes.get("issuer"))) throw new Refusal("issuer-class");
  return entry;
}

function checkSignature(presented: Presented, payload: Uint8Array, issuer: KeyEntry): void {
  const { key } = issuer;
  if (presented.form === "full") {
    const { kid, algorithm } = presented.token;
    if (!equalBytes(kid, key.kid) || algorithm !== key.algorithm)
      throw new Refusal("signature-invalid", "signed by another key");
  }
  if (!isValidSignature(key, signatureInput(key.algorithm, payload), presented.signature))
    throw new Refusal("signature-invalid");
}

function checkTimes({ manifest }: HeldBatch, now: number): void {
  if (now < manifest.nbf) throw new Refusal("not-yet-valid", `valid from ${manifest.nbf}`);
  if (now >= manifest.exp) throw new Refusal("expired", `expired at ${manifest.exp}`);
}

/** @returns whether the statement is past its soft age */
function checkStatus(trust: Trust, state: NodeState, batch: HeldBatch, index: number, now: number): boolean {
  const { status } = state;
  if (!status) throw new Refusal("status-missing");
  if (status.revoked.has(index)) throw new Refusal("revoked");
  if (status.suspended.has(index)) throw new Refusal("suspended");
  if (status.unreleased.has(index)) throw new Refusal("not-released");
  const { statement } = status.verified;
  if (index >= statement.n) throw new Refusal("not-covered", `the statement reaches ${statement.n} indices`);
  const freshness = freshnessOf(statement, trust.rules.ages.get(batch.manifest.profile), now);
  if (freshness === "ahead") throw new Refusal("status-invalid", "a statement from the future");
  if (freshness === "stale") throw new Refusal("status-stale", `issued at ${statement.issued}`);
  if (statement.epoch < trust.head.floor.epoch) throw new Refusal("floor-missing");
  return freshness === "aging";
}
