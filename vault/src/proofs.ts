/**
 * Proofs of what is public: `log.proof` of a batch, and with it the kits of its stations; the proof file of a status
 * event. They carry a checkpoint that enough witnesses have cosigned, and stay as they are until trustees sign another
 * list of witnesses: then they are made again, because whoever meets them afterwards counts those. A proof proves
 * itself, so it may be replaced where everything else of a batch is immutable.
 */
import { buildInclusionProof, decodeManifest, OperationError } from "@viafabric/schemas";
import { openTree } from "@viafabric/transparency-log/client";
import { bundleProof, proofFile } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import { EMPTY_PUBLICATION, type PublishedFile } from "./publisher.ts";
import type { BatchRecord, EventRecord, KitRecord, StatusEventWithSignatures } from "./records.ts";
import { eventFile } from "./status-files.ts";

/** Batches events and status events that are logged and, but for their proofs, public. */
export interface Provable {
  readonly events: readonly EventRecord[];
  readonly statusEvents: readonly StatusEventWithSignatures[];
}

export interface Proofs {
  readonly files: readonly PublishedFile[];
  readonly kits: readonly KitRecord[];
}

const KIT_ID_BYTES = 16;

export async function unprovenNow({ deps }: Desk): Promise<Provable> {
  const events: EventRecord[] = [];
  const statusEvents: StatusEventWithSignatures[] = [];
  for (const id of await deps.store.unproven()) {
    const event = await deps.store.event(id);
    const statusEvent = event ? undefined : await deps.store.statusEvent(id);
    if (event) events.push(event);
    if (statusEvent) statusEvents.push(statusEvent);
  }
  return { events, statusEvents };
}

export function idsOf({ events, statusEvents }: Provable): readonly Uint8Array[] {
  return [...events.map(({ proposal }) => proposal.id), ...statusEvents.map(({ id }) => id)];
}

/** @param checkpoint of the log as it is, cosigned by a quorum */
export async function proofsOf(
  desk: Desk,
  { events, statusEvents }: Provable,
  checkpoint: Uint8Array,
): Promise<Proofs> {
  const { store, random, now } = desk.deps;
  const { head } = desk.log;
  const tree = await openTree(desk.logFiles, head);
  const logged = async (leafIndex: number | undefined) => {
    if (leafIndex === undefined) throw new OperationError("ERR_DATABASE", "something published is not logged");
    const hashes = await buildInclusionProof(leafIndex, head.size, tree.subtree);
    return { entry: await desk.entryAt(leafIndex), inclusion: { index: leafIndex, hashes } };
  };
  const files: PublishedFile[] = [];
  const kits: KitRecord[] = [];
  for (const event of events) {
    for (const record of await store.batchesOf(event.proposal.id)) {
      const { entry, inclusion } = await logged(record.leafIndex);
      files.push(proofFile(record.seq, bundleProof(entry, inclusion, checkpoint)));
      kits.push(...kitsOf(record, random, now()));
    }
  }
  for (const { leafIndex } of statusEvents) {
    const { entry, inclusion } = await logged(leafIndex);
    files.push(eventFile(entry, inclusion, checkpoint));
  }
  return { files, kits };
}

/**
 * Between two rounds: when witnesses are back, the proofs that waited for them, and a checkpoint that they cosigned.
 * @returns whether anything was published
 */
export async function provingRound(desk: Desk): Promise<boolean> {
  const witnesses = await desk.witnesses();
  if (!witnesses.ready) return false;
  const waiting = await unprovenNow(desk);
  const { events, statusEvents } = waiting;
  if (events.length === 0 && statusEvents.length === 0 && (await isCosigned(desk))) return false;
  const { note, checkpoint } = await desk.cosign();
  if (!checkpoint) return false;
  const { files, kits } = await proofsOf(desk, waiting, note);
  await desk.deps.store.addPublication(
    { ...EMPTY_PUBLICATION, hints: files, pointers: { checkpoint: note } },
    desk.deps.now(),
    { events: [], statusEvents: [], proven: idsOf(waiting), kits },
  );
  await desk.publishDecided();
  return true;
}

/** Whether readers find a checkpoint that the policy accepts. */
async function isCosigned(desk: Desk): Promise<boolean> {
  const published = await desk.readPublic("log/checkpoint");
  return published !== undefined && (await desk.witnesses()).accepts(published);
}

function kitsOf(
  { manifest, manifestHash }: BatchRecord,
  random: (length: number) => Uint8Array,
  created: number,
): readonly KitRecord[] {
  return decodeManifest(manifest).stations.map(({ kid, first, count }) => {
    return { id: random(KIT_ID_BYTES), manifestHash, station: kid, first, count, created };
  });
}
