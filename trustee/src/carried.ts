/**
 * Proposals in one file, for a laptop that has never seen a network: what a vault says about them, and every published
 * file that a review reads.
 *
 *     CBOR { "format": "viafabric proposals 2", "authority", "taken": unix seconds,
 *            "proposals": [{ id, role, version, created, expires, threshold, signed, parts: {role: bytes},
 *                            approvals: [[keyid, sig]], rejections: [[keyid, reason, sig]], attachments: {name: bytes},
 *                            requestedBy: [kid], ownApprovals }],
 *            "files": { path below the published tree: bytes } }
 *
 * Nothing in it is believed: the laptop accepts and reviews from these bytes exactly as it would from a mirror and a
 * vault. Which files a review reads is not listed anywhere; they are recorded while one runs from the very beginning,
 * so that they serve a laptop which has accepted nothing yet, or any older state.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  type CborValue,
  CodedError,
  decodeCbor,
  encodeCbor,
  equalBytes,
  Fields,
  FormatError,
  formatHex,
  OperationError,
  VerificationError,
} from "@viafabric/schemas";
import { type FetchFile, type Mirror, openTree, subFolder, tryMirrors } from "@viafabric/transparency-log/client";
import { PROPOSED_BATCHES_MAX, type ProposalRole } from "@viafabric/tuf";
import { acceptPublished } from "./accepted.ts";
import { createHome, type Home, homeAt, readFirstRoot, writeFirstRoot } from "./home.ts";
import { reviewProposal } from "./review.ts";
import type { Parts, ProposalDetail } from "./vault-client.ts";

/** The log of a million tokens and the payloads of some batches. */
export const CARRIED_BYTES_MAX = 512 * 1024 * 1024;
const PROPOSALS_MAX = 1024;
const FORMAT = "viafabric proposals 2";
/** Hashes in a tile. */
const TILE_WIDTH = 256;

export interface Carried {
  readonly authority: Uint8Array;
  /** Unix seconds, as the machine that wrote the file had it. */
  readonly taken: number;
  readonly proposals: readonly ProposalDetail[];
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export interface Gathered {
  readonly carried: Carried;
  /** Why a review on this machine refused a proposal, by its id in hex. It travels all the same: it can be rejected. */
  readonly refused: ReadonlyMap<string, CodedError>;
}

/** From one mirror, never a mixture. @param now unix seconds. @throws what accepting the published state throws */
export async function gather(
  home: Home,
  mirrors: readonly Mirror[],
  proposals: readonly ProposalDetail[],
  now: number,
): Promise<Gathered> {
  return (await tryMirrors(mirrors, (fetch) => gatherFrom(home, fetch, proposals, now))).value;
}

async function gatherFrom(
  home: Home,
  fetch: FetchFile,
  proposals: readonly ProposalDetail[],
  now: number,
): Promise<Gathered> {
  const { signed, authority } = await readFirstRoot(home);
  const files = new Map<string, Uint8Array>();
  const recorded: FetchFile = async (name) => {
    const bytes = files.get(name) ?? (await fetch(name));
    if (bytes) files.set(name, bytes);
    return bytes;
  };
  const folder = await mkdtemp(path.join(tmpdir(), "via-carried-"));
  try {
    const fresh = homeAt(folder);
    await createHome(fresh);
    await writeFirstRoot(fresh, signed);
    const accepted = await acceptPublished(fresh, [{ name: "recorded", fetch: recorded }], now);
    const { head } = accepted.trust;
    // A laptop that accepted an older head asks for the proof that this one extends it: any tile may be part of it.
    const manifests = await openTree(subFolder(recorded, "batches"), head);
    for (let tile = 0; tile * TILE_WIDTH < head.size; tile++) await manifests.tile(0, tile);
    const refused = new Map<string, CodedError>();
    for (const detail of proposals) {
      try {
        await reviewProposal(detail.id, detail, accepted, now);
      } catch (error) {
        if (!(error instanceof VerificationError || error instanceof FormatError)) throw error;
        refused.set(formatHex(detail.id), error);
      }
    }
    return { carried: { authority, taken: now, proposals, files }, refused };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Reads published files out of the file; what it lacks does not exist. */
export function carriedMirror({ files }: Carried): Mirror {
  return { name: "the carried file", fetch: async (name) => files.get(name) };
}

/** @throws OperationError ERR_USAGE */
export function carriedProposal({ proposals }: Carried, id: Uint8Array): ProposalDetail {
  const found = proposals.find((proposal) => equalBytes(proposal.id, id));
  if (!found) throw new OperationError("ERR_USAGE", `the file carries no proposal ${formatHex(id)}`);
  return found;
}

export function encodeCarried({ authority, taken, proposals, files }: Carried): Uint8Array {
  return encodeCbor(
    record({ format: FORMAT, authority, taken, proposals: proposals.map(proposalRecord), files: new Map(files) }),
  );
}

/** @throws FormatError ERR_CARRIED */
export function decodeCarried(bytes: Uint8Array): Carried {
  try {
    const fields = new Fields(decodeCbor(bytes), ["format", "authority", "taken", "proposals", "files"], "ERR_CARRIED");
    if (fields.text("format") !== FORMAT) throw wrong("it is of another format or version");
    return {
      authority: fields.bytes("authority", 32),
      taken: fields.integer("taken"),
      proposals: listOf(fields.value("proposals"), PROPOSALS_MAX).map(asDetail),
      files: filesOf(fields.value("files")),
    };
  } catch (cause) {
    if (!(cause instanceof CodedError) || cause.code === "ERR_CARRIED") throw cause;
    throw wrong(cause.message, cause);
  }
}

function record(object: Readonly<Record<string, CborValue>>): CborValue {
  return new Map(Object.entries(object));
}

function proposalRecord(detail: ProposalDetail): CborValue {
  const { id, role, version, created, expires, threshold, signed, parts, attachments } = detail;
  const { approvals, rejections, requestedBy, ownApprovals } = detail;
  return record({
    ...{ id, role, version, created, expires, threshold, signed },
    parts: new Map(Object.entries(parts ?? {})),
    approvals: approvals.map(({ keyid, sig }) => [keyid, sig]),
    rejections: rejections.map(({ keyid, reason, signature }) => [keyid, reason, signature]),
    attachments: new Map(attachments),
    requestedBy: [...requestedBy],
    ownApprovals,
  });
}

const ROLES: readonly ProposalRole[] = ["root", "targets", "batches"];
const NAMES = ["id", "role", "version", "created", "expires", "threshold", "signed"] as const;
const MORE = ["parts", "approvals", "rejections", "attachments", "requestedBy", "ownApprovals"] as const;
const VOICES_MAX = 64;

function asDetail(value: CborValue): ProposalDetail {
  const fields = new Fields(value, [...NAMES, ...MORE], "ERR_CARRIED");
  const role = ROLES.find((known) => known === fields.text("role"));
  if (!role) throw wrong("a proposal for an unknown role");
  return {
    id: fields.bytes("id", 32),
    role,
    version: fields.integer("version"),
    // How it stood when the file was written; the vault decides when the answer arrives.
    state: "open",
    created: fields.integer("created"),
    expires: fields.integer("expires"),
    threshold: fields.integer("threshold"),
    signed: fields.bytes("signed"),
    parts: partsOf(filesOf(fields.value("parts"))),
    approvals: listOf(fields.value("approvals"), VOICES_MAX).map((item) => {
      const [keyid, sig] = listOf(item, 2);
      return { keyid: asText(keyid), sig: asBytes(sig) };
    }),
    rejections: listOf(fields.value("rejections"), VOICES_MAX).map((item) => {
      const [keyid, reason, signature] = listOf(item, 3);
      return { keyid: asText(keyid), reason: asText(reason), signature: asBytes(signature) };
    }),
    attachments: filesOf(fields.value("attachments")),
    requestedBy: listOf(fields.value("requestedBy"), PROPOSED_BATCHES_MAX).map(asBytes),
    ownApprovals: fields.value("ownApprovals") === true,
  };
}

/** Of a rotation; empty for every other proposal. */
function partsOf(parts: ReadonlyMap<string, Uint8Array>): Parts | undefined {
  if (parts.size === 0) return undefined;
  const [targets, batches] = [parts.get("targets"), parts.get("batches")];
  if (parts.size !== 2 || !targets || !batches) throw wrong("a rotation without its parts");
  return { targets, batches };
}

function filesOf(value: CborValue | undefined): ReadonlyMap<string, Uint8Array> {
  if (!(value instanceof Map)) throw wrong("no files where files belong");
  return new Map([...value].map(([name, bytes]) => [asText(name), asBytes(bytes)]));
}

function listOf(value: CborValue | undefined, lengthMax: number): readonly CborValue[] {
  if (!Array.isArray(value) || value.length > lengthMax) throw wrong("no list where a list belongs");
  return value as readonly CborValue[];
}

function asText(value: CborValue | undefined): string {
  if (typeof value !== "string") throw wrong("no text where text belongs");
  return value;
}

function asBytes(value: CborValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw wrong("no bytes where bytes belong");
  return value;
}

function wrong(reason: string, cause?: unknown): FormatError {
  return new FormatError("ERR_CARRIED", `not a file of proposals: ${reason}`, { cause });
}
