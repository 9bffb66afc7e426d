/** Ready targets on their way into the log: the signer takes them over, the log gets their leaf, a round publishes them. */
import { decodeTrustKeys, formatHex, type KeyEntry, parseUtf8 } from "@viafabric/schemas";
import { detachTargets, HEAD_PATH, KEYS_PATH, POLICY_PATH } from "@viafabric/tuf";
import { trustEntry } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import type { QuorumFiles } from "./published.ts";
import type { PublishedFile } from "./publisher.ts";
import { notStored } from "./ready.ts";
import type { EventRecord } from "./records.ts";
import { type RoleFile, targetFile } from "./trust-files.ts";

/** What a targets event brings. */
export interface Adoption {
  readonly event: EventRecord;
  readonly targets: RoleFile;
  /** By target path. */
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export async function readAdoption(desk: Desk, event: EventRecord): Promise<Adoption> {
  const { id, version } = event.proposal;
  if (!event.metadata) throw notStored(`event ${formatHex(id)} is ready and has no file`);
  const attachments = await desk.deps.store.attachments(id);
  const targetFiles = detachTargets(new Map(attachments.map(({ name, bytes }) => [name, bytes])));
  return { event, targets: { version, file: event.metadata }, targetFiles };
}

/** What is in force with it. */
export function filesWithTargets(desk: Desk, { targets, targetFiles }: Adoption): QuorumFiles {
  const { files, trusted } = desk.need();
  return {
    ...files,
    targets: targets.file,
    targetFiles: new Map([...targetFiles, [HEAD_PATH, trusted.headBytes]]),
  };
}

export async function logAdoption(desk: Desk, adoption: Adoption): Promise<void> {
  const { signer } = desk.deps;
  const { event, targets } = adoption;
  if ((await signer.state()).accepted.targets < targets.version)
    await signer.trust({ ...filesWithTargets(desk, adoption), headProof: [] });
  const entry = trustEntry("targets", targets.version, targets.file);
  await desk.appendOnce(`event/${formatHex(event.proposal.id)}`, [entry]);
}

/** @throws FormatError ERR_TRUST_FILE */
export function adoptedKeys({ targetFiles }: Adoption): readonly KeyEntry[] {
  return decodeTrustKeys(targetFiles.get(KEYS_PATH) ?? new Uint8Array(0));
}

/** The tlog-policy. */
export function adoptedPolicy({ targetFiles }: Adoption): string {
  return parseUtf8(targetFiles.get(POLICY_PATH) ?? new Uint8Array(0));
}

export function adoptedFiles({ targetFiles }: Adoption): readonly PublishedFile[] {
  return [...targetFiles].map(([path, bytes]) => targetFile(path, bytes));
}
