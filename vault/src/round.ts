/**
 * A publication round: the next statement, and with it everything that is in the log and not yet public: batches with
 * their bundles and the head over them, status events with their proofs, and the online metadata when its day has come.
 *
 * The order never changes: sign, log, ask the witnesses, write the publication down, make it visible. What the signer
 * has signed before a crash is what it is asked for again.
 *
 * Without enough cosignatures everything goes out but the proofs: no bundle is accepted without one, no event undoes
 * anything, no kit can be fetched. Whatever protects people, a revocation above all, does not wait for others' servers.
 */

import type { SignerStatus } from "@viafabric/hsm/signer";
import { parseStatement } from "@viafabric/revocation";
import { decodeManifest, type Manifest, OperationError, parseNote } from "@viafabric/schemas";
import { assemble, parseSigned, type TrustedState } from "@viafabric/tuf";
import { type AdoptedRotation, readRotation } from "./adopt-rotation.ts";
import { type Adoption, adoptedFiles, adoptedKeys, adoptedPolicy, readAdoption } from "./adopt-targets.ts";
import { BATCH_LIST_LINES, batchListFile, bundleFiles, trustEntry } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import { type Issue, readIssue, readIssuedBatch, readyEvent } from "./issue.ts";
import { idsOf, proofsOf, unprovenNow } from "./proofs.ts";
import { EMPTY_PUBLICATION, mergePublications, type Publication, type PublishedFile } from "./publisher.ts";
import type { EventRecord, StatusEventWithSignatures } from "./records.ts";
import { statusPublication } from "./status-files.ts";
import { unpublishedTranscripts } from "./transcripts.ts";
import {
  headFile,
  type MetadataState,
  nextOnlineMetadata,
  ONLINE_LIFETIME_SECONDS,
  type RoleFile,
  rootFiles,
} from "./trust-files.ts";

/** Online metadata is signed again every day. */
const ONLINE_SECONDS = 86_400;

/** What the very first round starts from. */
export interface FirstRound {
  readonly trusted: Pick<TrustedState, "authority" | "keys" | "policyText">;
  readonly targets: RoleFile;
  readonly batches: RoleFile;
  readonly files: readonly PublishedFile[];
}

/** @param genesis given once, when nothing is published yet */
export async function publicationRound(desk: Desk, genesis?: FirstRound): Promise<void> {
  const { store, signer, now } = desk.deps;
  const base = genesis ?? desk.need();
  const note = await statementNote(desk);
  const { epoch, log, batches } = parseStatement(parseNote(note).text);
  await desk.history.replayTo(desk.log.head, log.size);
  const ready = await readyEvent(desk);
  const rotation = ready && (await loggedRotation(desk, ready, batches));
  const adoption = rotation?.adoption ?? (ready && (await loggedAdoption(desk, ready)));
  const { verified, publication: status } = await statusPublication(
    {
      authority: base.trusted.authority,
      // Targets that come out with the statement may name the status key that signed it.
      keys: adoption ? adoptedKeys(adoption) : base.trusted.keys,
      held: desk.history.held,
      previous: desk.history.previous,
      next: desk.history.planesAt(epoch),
      note,
      reinstatements: desk.history.reinstatements,
    },
    (name) => desk.readPublic(name),
  );
  if ((await signer.state()).logged.statement < epoch) await desk.log.append([trustEntry("statement", epoch, note)]);

  const issue = rotation?.issue ?? (ready && (await loggedIssue(desk, ready, verified.statement.batches)));
  const events = await loggedEvents(desk, log.size);
  const changed = {
    ...(issue && { batches: { version: issue.event.proposal.version, file: issue.metadata } }),
    ...(adoption && { targets: adoption.targets }),
    ...(rotation && { root: rotation.root }),
  };
  const online = await onlineMetadata(desk, base, changed, note);
  // Whoever reads what comes out now reads it under the policy that comes out with it.
  const policyText = (adoption && adoptedPolicy(adoption)) ?? base.trusted.policyText;
  const { note: checkpoint, checkpoint: enough } = await desk.cosign(policyText);
  const fresh = { events: issue ? [issue.event] : [], statusEvents: events };
  // What has waited is proven together with what is new; or the new waits, too.
  const before = await unprovenNow(desk);
  const proofs = await proofsOf(
    desk,
    {
      events: enough ? [...before.events, ...fresh.events] : [],
      statusEvents: enough ? [...before.statusEvents, ...fresh.statusEvents] : [],
    },
    checkpoint,
  );
  const publication = mergePublications(
    { ...EMPTY_PUBLICATION, immutable: genesis?.files ?? [] },
    issue ? await issuePublication(desk, issue) : EMPTY_PUBLICATION,
    { ...EMPTY_PUBLICATION, immutable: adoption ? adoptedFiles(adoption) : [] },
    { ...EMPTY_PUBLICATION, roots: rotation ? rootFiles(rotation.root) : [] },
    { ...EMPTY_PUBLICATION, hints: proofs.files },
    { ...EMPTY_PUBLICATION, immutable: await unpublishedTranscripts(desk) },
    status,
    online,
    { ...EMPTY_PUBLICATION, pointers: { checkpoint } },
  );
  await store.addPublication(publication, now(), {
    events: ready && (issue || adoption) ? [ready.proposal.id] : [],
    statusEvents: events.map(({ id }) => id),
    unproven: enough ? [] : idsOf(fresh),
    proven: enough ? idsOf(before) : [],
    proveAgain: policyText !== base.trusted.policyText,
    kits: proofs.kits,
  });
  await desk.publishDecided();
}

/** The statement to publish next: one that was signed and never published, or a new one. */
async function statementNote(desk: Desk): Promise<Uint8Array> {
  const { signer } = desk.deps;
  const { statement } = await signer.state();
  if (statement.length > 0 && epochOf(statement) > (desk.history.held?.statement.epoch ?? 0)) return statement;
  return signer.statement();
}

export function epochOf(statement: Uint8Array): number {
  return statement.length === 0 ? 0 : parseStatement(parseNote(statement).text).epoch;
}

/** @param version of `batches` that the statement names: what it covers may be published with it */
async function loggedIssue(desk: Desk, event: EventRecord, version: number): Promise<Issue | undefined> {
  if (event.proposal.role !== "batches" || event.proposal.version > version) return undefined;
  return readIssue(desk, event);
}

/** All of it or nothing: the statement must name the batches that come with the root. */
async function loggedRotation(desk: Desk, event: EventRecord, version: number): Promise<AdoptedRotation | undefined> {
  if (event.proposal.role !== "root") return undefined;
  const rotation = await readRotation(desk, event);
  return rotation.issue.event.proposal.version <= version ? rotation : undefined;
}

async function loggedAdoption(desk: Desk, event: EventRecord): Promise<Adoption | undefined> {
  if (event.proposal.role !== "targets") return undefined;
  const { logged } = await desk.deps.signer.state();
  return logged.targets >= event.proposal.version ? readAdoption(desk, event) : undefined;
}

async function loggedEvents(desk: Desk, size: number): Promise<readonly StatusEventWithSignatures[]> {
  const events = await desk.deps.store.statusEvents("logged");
  return events.filter(({ leafIndex }) => leafIndex !== undefined && leafIndex < size);
}

async function issuePublication(desk: Desk, issue: Issue): Promise<Publication> {
  const immutable: PublishedFile[] = [];
  for (const record of issue.batches) {
    const { signed, tokensBin } = desk.issuedBatch(record.manifestHash) ?? (await readIssuedBatch(desk, record));
    if (record.leafIndex === undefined) throw new OperationError("ERR_DATABASE", `batch ${record.seq} is not logged`);
    immutable.push(...bundleFiles(signed, tokensBin));
  }
  immutable.push(...issue.tiles, headFile(issue.headBytes));
  return { ...EMPTY_PUBLICATION, immutable, hints: await listFiles(desk, issue) };
}

/** The pages of the list that the new batches are on. */
async function listFiles(desk: Desk, { batches }: Issue): Promise<readonly PublishedFile[]> {
  const pages = new Set(batches.map(({ seq }) => Math.floor(seq / BATCH_LIST_LINES)));
  const files: PublishedFile[] = [];
  for (const page of pages) {
    const rows = await desk.deps.store.loggedBatches(page * BATCH_LIST_LINES, BATCH_LIST_LINES);
    files.push(batchListFile(rows.map(({ manifest }): Manifest => decodeManifest(manifest))));
  }
  return files;
}

/** Nothing to sign between two days, unless trustees signed something new. */
async function onlineMetadata(
  desk: Desk,
  base: Pick<FirstRound, "targets" | "batches">,
  changed: { readonly batches?: RoleFile; readonly targets?: RoleFile; readonly root?: RoleFile },
  statement: Uint8Array,
): Promise<Publication> {
  const { signer, now } = desk.deps;
  const status = await signer.state();
  const at = now();
  // Signed and never published: what it lists may never have been published either, so it is signed anew.
  const lost = versionOf(status, "revocations") > (desk.published?.revocationsVersion ?? 0);
  // New targets may name another key for it, and what the old key signed would be refused under them.
  const dueStatement = lost || changed.targets !== undefined || at >= signedAt(status, "revocations") + ONLINE_SECONDS;
  const dueTimestamp = at >= signedAt(status, "timestamp") + ONLINE_SECONDS;
  if (!changed.batches && !changed.targets && !dueStatement && !dueTimestamp) return EMPTY_PUBLICATION;
  const { publication } = await nextOnlineMetadata(
    metadataState(status, base),
    { ...changed, ...(dueStatement && { statement }) },
    (role, signed) => signer.metadata({ role, signed, bridge: changed.root !== undefined }),
    at,
  );
  return publication;
}

/** Versions as the signer signed them last: one that was signed and never published is passed over. */
function metadataState(
  status: SignerStatus,
  { targets, batches }: Pick<FirstRound, "targets" | "batches">,
): MetadataState {
  const revocations = status.metadata.get("revocations");
  return {
    targets,
    batches,
    ...(revocations && {
      revocations: { version: revocations.version, file: assemble(revocations.signed, revocations.signatures) },
    }),
    snapshotVersion: versionOf(status, "snapshot"),
    timestampVersion: versionOf(status, "timestamp"),
  };
}

type OnlineRole = "snapshot" | "timestamp" | "revocations";

function versionOf(status: SignerStatus, role: OnlineRole): number {
  return status.metadata.get(role)?.version ?? 0;
}

/** From when until when the metadata of the online roles is good, as they were signed last. */
export function onlineLives(status: SignerStatus) {
  return (["snapshot", "timestamp", "revocations"] as const).map((role) => {
    const from = signedAt(status, role);
    return { role, from, expires: from + ONLINE_LIFETIME_SECONDS };
  });
}

/** When a role was signed last; it lives for a fixed time from then on. */
export function signedAt(status: SignerStatus, role: OnlineRole): number {
  const last = status.metadata.get(role);
  if (!last) return 0;
  return parseSigned(role === "revocations" ? "targets" : role, last.signed).expires - ONLINE_LIFETIME_SECONDS;
}
