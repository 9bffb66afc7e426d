/**
 * The bounded signer: keys in a token and one memory, and nothing signed that its own rules do not allow.
 *
 * Every method has the same shape: a pure plan decides, the token signs, the signature is verified, the new memory is
 * durable, and only then the answer leaves. A crash before that leaves nothing behind that anybody has seen.
 */
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import { parseStatement, statementName } from "@viafabric/revocation";
import {
  concat,
  equalBytes,
  formatNote,
  isValidSignature,
  OperationError,
  parseNote,
  type Signer,
  signNote,
} from "@viafabric/schemas";
import { formatCheckpoint } from "@viafabric/transparency-log";
import {
  authorityOf,
  METADATA_BYTES_MAX,
  parseMetadata,
  signMetadata,
  type TrustedState,
  type TufSignature,
} from "@viafabric/tuf";
import type { Hsm } from "../index.ts";
import { type AppendRequest, hashEntries, planAppend } from "./append.ts";
import type { SignerConfig, SignerKeys } from "./config.ts";
import { KeyRing } from "./key-ring.ts";
import { Memory } from "./memory.ts";
import { type MetadataRequest, planMetadata, withMetadata } from "./metadata.ts";
import { assertNotBehind } from "./published.ts";
import type { SignerState } from "./state.ts";
import { planStatement, withStatement } from "./statement.ts";
import { BatchBodies, type BatchRequest, type Bodies, planBatch, planIssuer, withSignedBatch } from "./tokens.ts";
import { acceptTranscript } from "./transcripts.ts";
import { acceptTrust, originOf, rootBefore, type TrustRequest, verifyStored } from "./trust.ts";

export interface SignerPlace {
  readonly hsm: Hsm;
  readonly stateFile: string;
  readonly clock: () => number;
  readonly reread?: () => Promise<SignerKeys>;
}

/** Methods do not overlap: the server calls one after the other. */
export interface BoundedSigner {
  readonly state: SignerState;
  readonly trusted: TrustedState | undefined;
  trust(request: TrustRequest): Promise<void>;
  /** @throws VerificationError unless trustees approved its manifest */
  openBatch(request: BatchRequest): OpenBatch;
  /** @returns the checkpoint, a signed note of the log key */
  append(request: AppendRequest): Promise<Uint8Array>;
  /** @returns the status statement, a signed note. @param reissue the last one again */
  statement(reissue: boolean): Promise<Uint8Array>;
  /** @returns one signature; two with `bridge` and another key than before */
  metadata(request: MetadataRequest): Promise<readonly TufSignature[]>;
  /** Takes a transcript over, so that its leaf may be logged. */
  transcript(bytes: Uint8Array): Promise<void>;
}

/** A batch on its way. Nothing of it is signed before all of its bodies are there. */
export interface OpenBatch {
  /** Bodies so far. */
  readonly count: number;
  add(bodies: Bodies): void;
  /** @returns the signatures of some of its tokens, 64 bytes each, in order. @param from counts from its first token */
  sign(from: number, count: number): Promise<Uint8Array>;
}

/**
 * @param stateFile its memory. Private, and never restored from a backup
 * @param reread the keys as the configuration pins them now: asked when trust files come, which may put a new one into
 * force. Those of `config` when left out
 * @param clock unix seconds
 * @throws OperationError ERR_SIGNER_BEHIND, ERR_SIGNER_STATE, ERR_HSM_KEY
 */
export async function openBoundedSigner(
  config: SignerConfig,
  { hsm, stateFile, clock, reread }: SignerPlace,
): Promise<BoundedSigner> {
  const pinnedRoot = await readFileBounded(config.root, METADATA_BYTES_MAX.root);
  const authority = authorityOf(parseMetadata("root", pinnedRoot).signedBytes);
  const ring = await KeyRing.open(hsm, config.keys, config.workers);
  const anchors = { pinnedRoot, logKey: ring.log };
  const memory = await Memory.open(stateFile, authority);
  const { state } = memory;
  if (!equalBytes(state.authority, authority))
    throw new OperationError("ERR_SIGNER_STATE", `${stateFile} belongs to another authority than the pinned root`);
  memory.trust(state.trust && verifyStored(anchors, state.trust));
  await assertNotBehind(state, config.public);
  return {
    get state() {
      return memory.state;
    },
    get trusted() {
      return memory.trusted;
    },

    async trust(request) {
      if (reread) await ring.hold(await reread());
      const accepted = acceptTrust(memory.state, memory.trusted, anchors, request, clock());
      await memory.keep(accepted.state);
      memory.trust(accepted.trusted);
    },

    openBatch(request) {
      const manifest = planBatch(memory.need(), request, clock());
      const issuerNow = () => planIssuer(memory.need(), ring.held("issuer"), manifest, clock());
      issuerNow();
      const bodies = new BatchBodies(manifest);
      return {
        get count() {
          return bodies.count;
        },
        add: (more) => bodies.add(more),
        async sign(from, count) {
          const issuer = issuerNow();
          const messages = bodies.messages(from, count, issuer);
          // Remembered first: a batch counts as signed from the moment its first signature could exist.
          await memory.keep(withSignedBatch(memory.state, manifest, request.manifest));
          const pool = await ring.issuer(issuer);
          return concat(...(await pool.signAll(messages)));
        },
      };
    },

    async append(request) {
      const { lastAppend } = memory.state;
      // The answer may have been lost on the way: the same question has the same answer.
      if (lastAppend?.from === request.from && equalBytes(lastAppend.entriesHash, hashEntries(request)))
        return lastAppend.note;
      const trustedNow = memory.need();
      const { state: next, steps, entriesHash, size, root } = planAppend(memory.state, trustedNow, request, clock());
      const origin = originOf(trustedNow, ring.log);
      const note = await signedNote(formatCheckpoint({ origin, size, root }), origin, ring.signer(ring.log));
      await memory.keep({ ...next, lastAppend: { from: request.from, entriesHash, note } }, steps);
      return note;
    },

    async statement(reissue) {
      if (reissue && memory.state.statement.length > 0) return memory.state.statement;
      const { text, key } = planStatement(memory.state, memory.need(), ring.held("status"), clock());
      const note = await signedNote(text, statementName(authority), ring.signer(key));
      await memory.keep(withStatement(memory.state, parseStatement(text).epoch, note));
      return note;
    },

    async transcript(bytes) {
      await memory.keep(acceptTranscript(memory.state, bytes));
    },

    async metadata(request) {
      const { role, signed, bridge } = request;
      const old = bridge && role !== "revocations" ? rootBefore(anchors, memory.state)?.roles[role] : undefined;
      const plan = planMetadata(memory.state, memory.need(), ring.held(role), request, clock(), old);
      if ("again" in plan) return plan.again.signatures;
      const signatures: TufSignature[] = [];
      for (const key of plan.keys) signatures.push(await signMetadata(checked(ring.signer(key)), signed));
      await memory.keep(withMetadata(memory.state, role, { version: plan.version, signed, signatures }));
      return signatures;
    },
  };
}

async function signedNote(text: string, name: string, signer: Signer): Promise<Uint8Array> {
  const note = formatNote({ text, signatures: [await signNote(text, name, checked(signer))] });
  // What nobody could read must not be signed; the text is ours, so this is a bug if it ever fails.
  if (parseNote(note).text !== text) throw new RangeError("a note whose text does not survive");
  return note;
}

/** A signer whose every signature is verified before anybody sees it: against faults, wrong keys and wrong buffers. */
export function checked(signer: Signer): Signer {
  return {
    publicKey: signer.publicKey,
    async sign(message) {
      const signature = await signer.sign(message);
      if (!isValidSignature(signer.publicKey, message, signature)) throw wrongSignature();
      return signature;
    },
  };
}

function wrongSignature(): OperationError {
  return new OperationError("ERR_HSM_DEVICE", "the token made a signature that does not verify; nothing was released");
}

/** Where the memory lies: beside the configuration. */
export function stateFileBeside(configFile: string): string {
  return path.join(path.dirname(path.resolve(configFile)), "signer.state");
}
