/** The policy bundle that a node has accepted, and how it comes out of the node's home into a folder. */
import { rename, rm } from "node:fs/promises";
import path from "node:path";
import { ensureFolder, sizeIfPresent, syncFolder, temporaryName, writeFileDurable } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import { type PolicyState, policyFiles } from "@viafabric/tuf";
import { loadTrust } from "@viafabric/tuf/client";
import { type NodeHome, trustFolder } from "./home.ts";

export interface HeldPolicy {
  readonly state: PolicyState;
  /** By path in the bundle; empty until the first bundle. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Verified again from the pinned root. @throws OperationError ERR_TRUST_MISSING, ERR_NOT_FOUND; FormatError */
export async function loadPolicy(home: NodeHome): Promise<HeldPolicy> {
  const { policy, files } = await loadTrust(trustFolder(home), home.pinned);
  if (!policy) throw new OperationError("ERR_NOT_FOUND", "this authority has no policy lineage");
  return { state: policy, files: policy.bundle ? policyFiles(policy.bundle, files) : new Map() };
}

/**
 * Writes the files into a new folder, which appears complete or not at all: a program that reads policies must never
 * meet half a bundle. @throws OperationError ERR_FILE when `folder` exists
 */
export async function exportPolicy({ files }: HeldPolicy, folder: string): Promise<void> {
  if ((await sizeIfPresent(folder)) !== undefined)
    throw new OperationError("ERR_FILE", `${folder} exists; name a new folder, and switch your program over to it`);
  const target = path.resolve(folder);
  const temporary = temporaryName(target);
  await ensureFolder(temporary);
  try {
    for (const [name, bytes] of files) {
      await ensureFolder(path.join(temporary, path.dirname(name)));
      await writeFileDurable(path.join(temporary, name), bytes);
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(path.dirname(target));
}
