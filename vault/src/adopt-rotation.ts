/**
 * A ready rotation on its way into the log: the signer takes over root, targets and batches at once, the log gets their
 * three leaves in that order, and one round publishes all of them, the root last.
 */
import { decodeHead, formatHex } from "@viafabric/schemas";
import { HEAD_ATTACHMENT, HEAD_PATH } from "@viafabric/tuf";
import type { Adoption } from "./adopt-targets.ts";
import { trustEntry } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import type { Issue } from "./issue.ts";
import type { QuorumFiles } from "./published.ts";
import { notStored } from "./ready.ts";
import type { EventRecord } from "./records.ts";
import type { RoleFile } from "./trust-files.ts";

/** What a rotation brings; targets and batches as if each had come by itself. */
export interface AdoptedRotation {
  readonly event: EventRecord;
  readonly root: RoleFile;
  readonly adoption: Adoption;
  readonly issue: Issue;
}

export async function readRotation(desk: Desk, event: EventRecord): Promise<AdoptedRotation> {
  const { id } = event.proposal;
  const headBytes = await desk.deps.store.attachment(id, HEAD_ATTACHMENT);
  if (!event.parts || !headBytes) throw notStored(`rotation ${formatHex(id)} is incomplete`);
  const { targets, batches } = event.parts;
  const targetFiles = new Map([...desk.need().files.targetFiles].filter(([path]) => path !== HEAD_PATH));
  const metadata = fileOf(batches);
  return {
    event,
    root: roleOf(event),
    adoption: { event: targets, targets: roleOf(targets), targetFiles },
    issue: { event: batches, metadata, head: decodeHead(headBytes), headBytes, batches: [], tiles: [] },
  };
}

/** What is in force with it. */
export function filesWithRotation(desk: Desk, { root, adoption, issue }: AdoptedRotation): QuorumFiles {
  return {
    roots: [...desk.need().files.roots, root.file],
    targets: adoption.targets.file,
    batches: issue.metadata,
    targetFiles: new Map([...adoption.targetFiles, [HEAD_PATH, issue.headBytes]]),
  };
}

export async function logRotation(desk: Desk, rotation: AdoptedRotation): Promise<void> {
  const { signer } = desk.deps;
  const { event, root, adoption, issue } = rotation;
  // The tree of manifests is the same.
  if ((await signer.state()).accepted.root < root.version)
    await signer.trust({ ...filesWithRotation(desk, rotation), headProof: [] });
  // Each version is judged by what was logged before it: targets by the new root, batches by those targets.
  await desk.appendOnce(`event/${formatHex(event.proposal.id)}`, [
    trustEntry("root", root.version, root.file),
    trustEntry("targets", adoption.targets.version, adoption.targets.file),
    trustEntry("batches", issue.event.proposal.version, issue.metadata),
  ]);
}

function roleOf(event: EventRecord): RoleFile {
  return { version: event.proposal.version, file: fileOf(event) };
}

function fileOf({ metadata, proposal }: EventRecord): Uint8Array {
  if (!metadata) throw notStored(`${proposal.role} ${proposal.version} is ready without a file`);
  return metadata;
}
