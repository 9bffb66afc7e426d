/**
 * The trust files as the log holds them: which root, rules, keys, approvers and log policy were in force at an entry.
 *
 * Each version is judged by what was logged before it: a root by its predecessor and itself, targets by the root,
 * heads by the approvers that targets name. The pinned root is where trust starts, wherever in the chain it stands.
 */
import {
  type CborValue,
  decodeHead,
  decodeRules,
  decodeTrustKeys,
  encodeHead,
  equalBytes,
  type Hash,
  type Head,
  type KeyEntry,
  parseUtf8,
  type Role,
  type Rules,
  sha256,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { type LogPolicy, parsePolicy } from "@viafabric/transparency-log";
import type { FetchFile } from "@viafabric/transparency-log/client";
import {
  assemble,
  delegatedRole,
  HEAD_PATH,
  KEYS_PATH,
  type Metadata,
  POLICY_PATH,
  parseMetadata,
  type Root,
  RULES_PATH,
  STATEMENT_PATH,
  type Targets,
  targetFileName,
  verifyFile,
  verifyRole,
  verifyRootChain,
} from "@viafabric/tuf";
import { evidence } from "./evidence.ts";

/** Where trust starts, verified. */
export interface Pin {
  readonly authority: Uint8Array;
  readonly version: number;
  /** SHA-256 of the signed part of that version. */
  readonly id: Uint8Array;
}

/** Role files by version, as logged. */
export type VersionedKind = "root" | "targets" | "batches";

/** What a targets version brings into force. */
interface InForce {
  readonly targets: Targets;
  readonly rules: Rules;
  readonly keys: readonly KeyEntry[];
  readonly approvers: Role;
}

export class TrustHistory {
  readonly policies: LogPolicy[] = [];
  /** Every role snapshot and timestamp ever had: old files are judged by the keys of their time. */
  readonly roots: Root[] = [];
  /** Every delegation to `revocations`. */
  readonly revocations: Role[] = [];
  readonly logged: Record<VersionedKind, Map<number, Hash>> = {
    root: new Map(),
    targets: new Map(),
    batches: new Map(),
  };
  head: Head | undefined;
  readonly #pin: Pin;
  readonly #fetch: FetchFile;
  #rootFile: Uint8Array | undefined;
  #inForce: InForce | undefined;

  constructor(pin: Pin, fetch: FetchFile) {
    this.#pin = pin;
    this.#fetch = fetch;
  }

  get root(): Root {
    const root = this.roots.at(-1);
    if (!root) throw unsound("nothing may be decided before a root is logged");
    return root;
  }

  get inForce(): InForce {
    if (!this.#inForce) throw unsound("nothing may be decided before targets are logged");
    return this.#inForce;
  }

  takeRoot(version: number, file: Uint8Array): void {
    const { authority } = this.#pin;
    if (this.#rootFile) verifyRootChain({ file: this.#rootFile, authority }, [file]);
    else if (!equalBytes(verifyRootChain({ file }, []).authority, authority)) {
      throw new VerificationError("ERR_AUTHORITY", "the log begins with the root of another authority");
    }
    const root = parseMetadata("root", file);
    if (root.signed.version !== version) throw unsound(`root ${version} is version ${root.signed.version}`);
    if (version === this.#pin.version && !equalBytes(sha256(root.signedBytes), this.#pin.id)) {
      throw new VerificationError("ERR_AUTHORITY", `root ${version} in the log is not the pinned one`);
    }
    this.#rootFile = file;
    this.roots.push(root.signed);
    this.logged.root.set(version, sha256(file));
  }

  async takeTargets(version: number, file: Uint8Array): Promise<void> {
    const { signed } = this.#verified(`targets ${version}`, version, file, this.root.roles.targets);
    const files = new Map<string, Uint8Array>();
    for (const [path, info] of signed.targets) {
      const bytes = await this.#need(`tuf/targets/${targetFileName(path, info.sha256)}`);
      verifyFile(path, bytes, info);
      files.set(path, bytes);
    }
    const target = (path: string): Uint8Array => {
      const bytes = files.get(path);
      if (!bytes) throw unsound(`targets ${version} lists no ${path}`);
      return bytes;
    };
    const rules = decodeRules(target(RULES_PATH));
    if (!equalBytes(rules.authority, this.#pin.authority)) {
      throw new VerificationError("ERR_AUTHORITY", `the rules of targets ${version} are of another authority`);
    }
    const approvers = delegatedRole(signed, "batches", HEAD_PATH);
    this.#inForce = { targets: signed, rules, keys: decodeTrustKeys(target(KEYS_PATH)), approvers };
    this.#addPolicy(parseUtf8(target(POLICY_PATH)));
    if (signed.delegations.some(({ name }) => name === "revocations")) {
      this.revocations.push(delegatedRole(signed, "revocations", STATEMENT_PATH));
    }
    this.logged.targets.set(version, sha256(file));
  }

  /** @returns the head that the approvers signed; that it grows is checked, that it is true is not */
  async takeBatches(version: number, file: Uint8Array): Promise<Head> {
    const { signed } = this.#verified(`batches ${version}`, version, file, this.inForce.approvers);
    const info = signed.targets.get(HEAD_PATH);
    if (!info || signed.targets.size !== 1 || signed.delegations.length > 0) {
      throw new VerificationError("ERR_DELEGATION", `batches ${version} must list ${HEAD_PATH} and nothing else`);
    }
    const bytes = await this.#need(`tuf/targets/${targetFileName(HEAD_PATH, info.sha256)}`);
    verifyFile(HEAD_PATH, bytes, info);
    const head = decodeHead(bytes);
    if (!equalBytes(head.authority, this.#pin.authority)) {
      throw new VerificationError("ERR_AUTHORITY", `the head of batches ${version} is of another authority`);
    }
    for (const [what, before, now] of [
      ["size", this.head?.size, head.size],
      ["next index", this.head?.next, head.next],
      ["log size", this.head?.log.size, head.log.size],
      ["floor", this.head?.floor.epoch, head.floor.epoch],
    ] as const) {
      if (before === undefined || now >= before) continue;
      throw new VerificationError("ERR_HEAD_FORK", `the ${what} of batches ${version} falls from ${before} to ${now}`);
    }
    this.head = head;
    this.logged.batches.set(version, sha256(file));
    return head;
  }

  /** For a file that the same machine reads again. */
  encode(): CborValue {
    const maps = (["root", "targets", "batches"] as const).map((kind) =>
      [...this.logged[kind]].map((pair) => [...pair]),
    );
    const head = this.head ? encodeHead(this.head) : new Uint8Array(0);
    return [maps, head];
  }

  /** Reads the logged roots and targets again, each by the hash it was logged with. */
  async restore(value: CborValue): Promise<void> {
    const [maps, head] = value as readonly [readonly (readonly (readonly [number, Hash])[])[], Uint8Array];
    const [roots, targets, batches] = maps as [[number, Hash][], [number, Hash][], [number, Hash][]];
    for (const [version, hash] of roots) this.takeRoot(version, await this.#again(`${version}.root.json`, hash));
    // Roles at the end of the history judge what follows; that each version was signed when it came was judged then.
    for (const [version, hash] of targets) await this.#restoreTargets(version, hash);
    for (const [version, hash] of batches) this.logged.batches.set(version, hash);
    this.head = head.length === 0 ? undefined : decodeHead(head);
  }

  async #restoreTargets(version: number, hash: Hash): Promise<void> {
    const file = await this.#again(`${version}.targets.json`, hash);
    const roots = [...this.roots];
    for (const root of roots.reverse()) {
      try {
        verifyRole(root.roles.targets, `targets ${version}`, parseMetadata("targets", file));
      } catch {
        continue;
      }
      const kept = this.roots.splice(this.roots.indexOf(root) + 1);
      await this.takeTargets(version, file);
      this.roots.push(...kept);
      return;
    }
    throw unsound(`targets ${version} is signed under no logged root`);
  }

  async #again(name: string, hash: Hash): Promise<Uint8Array> {
    const file = await this.#need(`tuf/metadata/${name}`);
    if (!equalBytes(sha256(file), hash)) throw evidence(`${name} is not the file that was audited before`);
    return file;
  }

  #verified(name: string, version: number, file: Uint8Array, role: Role): Metadata<Targets> {
    const metadata = parseMetadata("targets", file);
    if (metadata.signed.version !== version) throw unsound(`${name} is version ${metadata.signed.version}`);
    verifyRole(role, name, metadata);
    return metadata;
  }

  #addPolicy(text: string): void {
    const policy = parsePolicy(utf8(text));
    this.policies.unshift(policy);
  }

  async #need(path: string): Promise<Uint8Array> {
    const bytes = await this.#fetch(path);
    if (!bytes) throw evidence(`${path} is not published`);
    return bytes;
  }
}

/** Whether the file is what `assemble` makes of it: then no bit of it can be another one. */
export function isCanonical({ signedBytes, signatures, file }: Metadata): boolean {
  return equalBytes(assemble(signedBytes, signatures), file);
}

/** @throws VerificationError unless one of the roles signed it */
export function verifyUnderAny(roles: readonly Role[], name: string, metadata: Metadata): void {
  for (const role of roles.slice(0, -1)) {
    try {
      verifyRole(role, name, metadata);
      return;
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
    }
  }
  const last = roles.at(-1);
  if (!last) throw unsound(`no role may sign ${name}`);
  verifyRole(last, name, metadata);
}

function unsound(reason: string): VerificationError {
  return new VerificationError("ERR_LOG_UNSOUND", reason);
}
