/** Keys from fixed seeds, logs in memory, and a source of randomness that prints its seed. */
import { createPrivateKey, createPublicKey, randomInt, sign } from "node:crypto";
import {
  concat,
  ed25519PublicKey,
  equalBytes,
  formatNote,
  hashLeaf,
  MerkleFrontier,
  type NoteSignature,
  type NoteVerifier,
  noteVerifier,
  OperationError,
  parseHex,
  type Signer,
  signNote,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { formatCheckpoint } from "./checkpoint.ts";
import type { FetchFile } from "./fetch.ts";
import type { CheckpointLock, LockedHead, LogFiles, SignCheckpoint, StagingFiles } from "./log.ts";
import { growFrontier } from "./second-root.ts";

export const ORIGIN = "log.example/nfc";
export const WITNESS = "witness.example/w1";
export const WITNESS_TIME = 1_700_000_000;

/** PKCS #8 of an Ed25519 seed. */
export function signerOf(fill: number): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), new Uint8Array(32).fill(fill));
  const key = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return {
    publicKey: ed25519PublicKey(spki.slice(12)),
    sign: async (message) => new Uint8Array(sign(null, message, key)),
  };
}

export const logSigner = signerOf(1);
export const witnessSigner = signerOf(2);
export const logVerifier: NoteVerifier = noteVerifier(ORIGIN, logSigner.publicKey);
export const witnessVerifier: NoteVerifier = noteVerifier(WITNESS, witnessSigner.publicKey, 4);

export async function signedCheckpoint(
  head: { size: number; root: Uint8Array },
  options: { witnessed?: boolean; signer?: Signer; origin?: string } = {},
): Promise<Uint8Array> {
  const origin = options.origin ?? ORIGIN;
  const text = formatCheckpoint({ origin, ...head });
  const signatures: NoteSignature[] = [await signNote(text, origin, options.signer ?? logSigner)];
  if (options.witnessed) signatures.push(await signNote(text, WITNESS, witnessSigner, WITNESS_TIME));
  return formatNote({ text, signatures });
}

/** The entries "0", "1", … of the published vectors. */
export function decimals(from: number, to: number): Uint8Array[] {
  return Array.from({ length: to - from }, (_, i) => utf8(String(from + i)));
}

/**
 * A signer with a memory of its own, as the real one: it computes the root itself, answers a repeated request with
 * the same checkpoint and never signs two trees of one size.
 */
export function rememberingSigner(refuse: (entries: readonly Uint8Array[]) => boolean = () => false): SignCheckpoint {
  let last: { from: number; before: MerkleFrontier; after: MerkleFrontier } | undefined;
  return async (entries, from) => {
    if (refuse(entries)) throw new VerificationError("ERR_THRESHOLD", "the signer refuses");
    const before = last === undefined || last.after.size === from ? (last?.after ?? new MerkleFrontier()) : last.before;
    if (before.size !== from) throw new OperationError("ERR_LOG_STATE", `the signer is not at ${from}`);
    const after = before.clone();
    for (const entry of entries) after.append(hashLeaf(entry));
    if (last && after.size <= last.after.size && !equalBytes(after.root(), last.after.root())) {
      throw new OperationError("ERR_LOG_STATE", `the signer has signed another tree than this of ${after.size}`);
    }
    last = { from, before, after };
    return signedCheckpoint({ size: after.size, root: after.root() });
  };
}

export function memoryLock(): CheckpointLock & { held: LockedHead | undefined } {
  return {
    held: undefined,
    async read() {
      return this.held;
    },
    async replace(oldSize, next) {
      if ((this.held?.size ?? 0) !== oldSize) throw new OperationError("ERR_LOG_STATE", "another writer was faster");
      this.held = next;
    },
  };
}

export function memoryFiles(map = new Map<string, Uint8Array>()): LogFiles & { map: Map<string, Uint8Array> } {
  return {
    map,
    read: async (path) => map.get(path),
    async putImmutable(files) {
      for (const { path, bytes } of files) {
        if (map.has(path) && !equalBytes(map.get(path)!, bytes)) throw new OperationError("ERR_FILE_IMMUTABLE", path);
        map.set(path, bytes.slice());
      }
    },
    async replace(path, bytes) {
      map.set(path, bytes);
    },
    freeBytes: async () => Number.POSITIVE_INFINITY,
  };
}

export function memoryStaging(map = new Map<string, Uint8Array>()): StagingFiles & { map: Map<string, Uint8Array> } {
  return {
    map,
    list: async () => [...map.keys()],
    async read(name) {
      const bytes = map.get(name);
      if (!bytes) throw new OperationError("ERR_FILE", `there is no ${name}`);
      return bytes;
    },
    async write(name, bytes) {
      map.set(name, bytes);
    },
    async remove(name) {
      map.delete(name);
    },
    async grow(name, frontier) {
      return growFrontier(frontier, await this.read(name));
    },
    freeBytes: async () => Number.POSITIVE_INFINITY,
    async close() {},
  };
}

export function mapFetch(map: ReadonlyMap<string, Uint8Array>): FetchFile {
  return async (path) => map.get(path);
}

/** Small and repeatable (mulberry32); the seed is in the test's name or printed by whoever asks for it. */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** VIA_SEED repeats an earlier run. */
export function freshSeed(): number {
  return Number(process.env.VIA_SEED ?? randomInt(2 ** 31));
}
