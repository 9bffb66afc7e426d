/** The methods of the bounded signer as CBOR: what a client sends, what the server makes of it, and back. */
import {
  type CborMap,
  type CborValue,
  Fields,
  FormatError,
  HASH_BYTES,
  type Hash,
  PROOF_HASHES_MAX,
} from "@viafabric/schemas";
import type { TufSignature } from "@viafabric/tuf";
import { APPEND_ENTRIES_MAX, type AppendRequest } from "./append.ts";
import type { MetadataRequest } from "./metadata.ts";
import type { BoundedSigner } from "./signer.ts";
import {
  frontierOf,
  LOGGED_KINDS,
  type LoggedKind,
  ONLINE_ROLES,
  type OnlineRole,
  type SignedMetadata,
} from "./state.ts";
import type { BatchRequest, Bodies } from "./tokens.ts";
import { neededFiles, type TrustRequest } from "./trust.ts";

/** Where the signer stands: what a sequencer needs in order to go on after a crash. */
export interface SignerStatus {
  readonly authority: Uint8Array;
  /** Accepted versions; 0 before the first. */
  readonly accepted: Readonly<Record<"root" | "targets" | "batches", number>>;
  /** The newest of each that has a leaf. */
  readonly logged: Readonly<Record<LoggedKind, number>>;
  /** Accepted or signed files that wait for their leaf, in order. */
  readonly unlogged: readonly { readonly kind: LoggedKind; readonly number: number; readonly fileHash: Hash }[];
  readonly log: { readonly size: number; readonly root: Hash };
  /** The last checkpoint; empty before the first. */
  readonly checkpoint: Uint8Array;
  /** Batches in the log, and N. */
  readonly batches: number;
  readonly n: number;
  /** Batches whose tokens were signed and that are not logged yet. */
  readonly signed: readonly number[];
  /** The last statement, a signed note; empty before the first. */
  readonly statement: Uint8Array;
  readonly metadata: ReadonlyMap<OnlineRole, SignedMetadata>;
}

/** In one message: small enough that other questions need not wait for long, and large enough to cost nothing. */
export const BODIES_MAX = 4096;
/** Signatures in one answer. A slow device is asked for fewer. */
export const SIGNATURES_MAX = 8192;
/** Some tokens of an open batch. */
export interface Pack {
  readonly batch: number;
  /** Counts from the batch's first token. */
  readonly from: number;
  readonly count: number;
}

const ROOTS_MAX = 1024;
const TARGET_FILES_MAX = 64;

export const encodeParams = {
  trust: ({ roots, targets, batches, targetFiles, headProof }: TrustRequest): CborMap =>
    new Map<string, CborValue>([
      ["roots", [...roots]],
      ["targets", targets],
      ["batches", batches],
      ["files", new Map(neededFiles(targetFiles))],
      ["proof", [...headProof]],
    ]),
  batch: ({ manifest, proof }: BatchRequest): CborMap =>
    new Map<string, CborValue>([
      ["manifest", manifest],
      ["proof", [...proof]],
    ]),
  bodies: (batch: number, { ids, subjects, confirmations }: Bodies): CborMap =>
    new Map<string, CborValue>([
      ["batch", batch],
      ["ids", ids],
      ["subjects", [...subjects]],
      ["confirmations", confirmations],
    ]),
  tokens: ({ batch, from, count }: Pack): CborMap =>
    new Map([
      ["batch", batch],
      ["from", from],
      ["count", count],
    ]),
  append: ({ from, entries }: AppendRequest): CborMap =>
    new Map<string, CborValue>([
      ["from", from],
      ["entries", [...entries]],
    ]),
  statement: (reissue: boolean): CborMap => new Map([["reissue", reissue]]),
  transcript: (bytes: Uint8Array): CborMap => new Map([["file", bytes]]),
  metadata: ({ role, signed, bridge }: MetadataRequest): CborMap =>
    new Map<string, CborValue>([
      ["role", role],
      ["signed", signed],
      ["bridge", bridge ?? false],
    ]),
};

export const decodeParams = {
  trust(params: CborMap): TrustRequest {
    const fields = new Fields(params, ["roots", "targets", "batches", "files", "proof"], "ERR_FRAME");
    const files = fields.value("files");
    if (!(files instanceof Map) || files.size > TARGET_FILES_MAX) throw wrong("files must be a small map");
    return {
      roots: fields.array("roots", ROOTS_MAX).map(asBytes),
      targets: fields.bytes("targets"),
      batches: fields.bytes("batches"),
      targetFiles: new Map([...files].map(([path, bytes]) => [String(path), asBytes(bytes)])),
      headProof: fields.array("proof", PROOF_HASHES_MAX).map(asHash),
    };
  },
  batch(params: CborMap): BatchRequest {
    const fields = new Fields(params, ["manifest", "proof"], "ERR_FRAME");
    return { manifest: fields.bytes("manifest"), proof: fields.array("proof", PROOF_HASHES_MAX).map(asHash) };
  },
  bodies(params: CborMap): { readonly batch: number; readonly bodies: Bodies } {
    const fields = new Fields(params, ["batch", "ids", "subjects", "confirmations"], "ERR_FRAME");
    const confirmations = fields.value("confirmations");
    if (!(confirmations instanceof Map)) throw wrong("confirmations must be a map");
    const bodies = {
      ids: fields.bytes("ids"),
      subjects: fields.array("subjects", BODIES_MAX).map(asText),
      confirmations: new Map([...confirmations].map(([place, bytes]) => [asInteger(place), asHash(bytes)])),
    };
    return { batch: fields.integer("batch"), bodies };
  },
  tokens(params: CborMap): Pack {
    const fields = new Fields(params, ["batch", "from", "count"], "ERR_FRAME");
    const [batch, from] = [fields.integer("batch"), fields.integer("from")];
    return { batch, from, count: fields.integer("count", SIGNATURES_MAX) };
  },
  append(params: CborMap): AppendRequest {
    const fields = new Fields(params, ["from", "entries"], "ERR_FRAME");
    return { from: fields.integer("from"), entries: fields.array("entries", APPEND_ENTRIES_MAX).map(asBytes) };
  },
  statement(params: CborMap): boolean {
    const reissue = new Fields(params, ["reissue"], "ERR_FRAME").value("reissue");
    if (typeof reissue !== "boolean") throw wrong("reissue is yes or no");
    return reissue;
  },
  transcript(params: CborMap): Uint8Array {
    return new Fields(params, ["file"], "ERR_FRAME").bytes("file");
  },
  metadata(params: CborMap): MetadataRequest {
    const fields = new Fields(params, ["role", "signed", "bridge"], "ERR_FRAME");
    const role = ONLINE_ROLES.find((name) => name === fields.text("role"));
    const bridge = fields.value("bridge");
    if (!role || typeof bridge !== "boolean") throw wrong("an online role, and whether the key before signs as well");
    return { role, signed: fields.bytes("signed"), bridge };
  },
};

export function encodeStatus({ state, trusted }: BoundedSigner): CborValue {
  return new Map<string, CborValue>([
    ["authority", state.authority],
    ["accepted", [trusted?.rootVersion ?? 0, trusted?.targetsVersion ?? 0, trusted?.batchesVersion ?? 0]],
    ["logged", LOGGED_KINDS.map((kind) => state.logged[kind])],
    ["unlogged", state.unlogged.map(({ kind, number, fileHash }) => [kind, number, fileHash])],
    ["log", [state.log.size, frontierOf(state).root()]],
    ["checkpoint", state.lastAppend?.note ?? new Uint8Array(0)],
    ["batches", state.batches.length],
    ["n", state.ledger.n],
    ["signed", [...state.signedManifests.keys()]],
    ["statement", state.statement],
    [
      "metadata",
      new Map([...state.metadata].map(([role, m]) => [role, [m.version, m.signed, encodeTufSignatures(m.signatures)]])),
    ],
  ]);
}

const STATUS_KEYS = ["authority", "accepted", "logged", "unlogged", "log", "checkpoint", "batches", "n", "signed"];

/** @throws FormatError ERR_FRAME */
export function decodeStatus(value: CborValue): SignerStatus {
  const fields = new Fields(value, [...STATUS_KEYS, "statement", "metadata"], "ERR_FRAME");
  const integers = (name: string, length: number) => fields.array(name, length).map(asInteger);
  const [root = 0, targets = 0, batches = 0] = integers("accepted", 3);
  const logged = integers("logged", LOGGED_KINDS.length);
  const [size, logRoot] = fields.array("log", 2);
  const metadata = fields.value("metadata");
  if (!(metadata instanceof Map)) throw wrong("metadata must be a map");
  return {
    authority: fields.bytes("authority", HASH_BYTES),
    accepted: { root, targets, batches },
    logged: Object.fromEntries(LOGGED_KINDS.map((kind, i) => [kind, logged[i] ?? 0])) as SignerStatus["logged"],
    unlogged: fields.array("unlogged", 1024).map((row) => {
      const [kind, number, fileHash] = asRow(row, 3);
      return { kind: oneOf(LOGGED_KINDS, kind!), number: asInteger(number!), fileHash: asHash(fileHash!) };
    }),
    log: { size: asInteger(size!), root: asHash(logRoot!) },
    checkpoint: fields.bytes("checkpoint"),
    batches: fields.integer("batches"),
    n: fields.integer("n"),
    signed: integers("signed", 4096),
    statement: fields.bytes("statement"),
    metadata: new Map(
      [...metadata].map(([role, row]) => {
        const [version, signed, signatures] = asRow(row, 3);
        const entry = {
          version: asInteger(version!),
          signed: asBytes(signed!),
          signatures: decodeTufSignatures(signatures!),
        };
        return [oneOf(ONLINE_ROLES, role), entry];
      }),
    ),
  };
}

export function encodeTufSignatures(signatures: readonly TufSignature[]): CborValue {
  return signatures.map(({ keyid, sig }) => [keyid, sig]);
}

export function decodeTufSignatures(value: CborValue): readonly TufSignature[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > 2) throw wrong("one or two signatures");
  return (value as readonly CborValue[]).map((row) => {
    const [keyid, sig] = asRow(row, 2);
    return { keyid: asText(keyid!), sig: asBytes(sig!) };
  });
}

export function asBytes(value: CborValue): Uint8Array {
  if (!(value instanceof Uint8Array)) throw wrong("bytes are expected");
  return value;
}

function asHash(value: CborValue): Hash {
  if (asBytes(value).length !== HASH_BYTES) throw wrong("a hash of another length");
  return asBytes(value);
}

function asText(value: CborValue): string {
  if (typeof value !== "string") throw wrong("text is expected");
  return value;
}

export function asInteger(value: CborValue): number {
  if (typeof value !== "number") throw wrong("an integer is expected");
  return value;
}

function asRow(value: CborValue, length: number): readonly CborValue[] {
  if (!Array.isArray(value) || value.length !== length) throw wrong(`a list of ${length} is expected`);
  return value as readonly CborValue[];
}

function oneOf<T extends string>(names: readonly T[], name: CborValue): T {
  const found = names.find((known) => known === name);
  if (!found) throw wrong("an unknown name");
  return found;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_FRAME", `a malformed message: ${reason}`);
}
