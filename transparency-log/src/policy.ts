/**
 * Log policies (C2SP tlog-policy): whose checkpoints count, and how many witnesses must have seen them.
 *
 *     log <vkey> [<url>]
 *     witness <name> <vkey> [<url>]
 *     group <name> <k|any|all> <member>...
 *     quorum <name|none>
 *
 * One item a line, `#` starts a comment line, names are defined before use and each is a member of at most one group.
 * A quorum counts distinct keys: a key that appears twice is refused rather than counted twice.
 */
import {
  FormatError,
  formatHex,
  formatVerifierKey,
  type NoteVerifier,
  openNote,
  parseDecimal,
  parseUtf8,
  parseVerifierKey,
  quote,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { type Checkpoint, parseCheckpoint } from "./checkpoint.ts";

export interface PolicyLog {
  readonly verifier: NoteVerifier;
  readonly url?: string;
}

export interface PolicyWitness extends PolicyLog {
  readonly name: string;
}

export interface PolicyGroup {
  readonly name: string;
  readonly threshold: number;
  /** Names of witnesses and of groups. */
  readonly members: readonly string[];
}

export interface LogPolicy {
  /** Never empty. */
  readonly logs: readonly PolicyLog[];
  readonly witnesses: readonly PolicyWitness[];
  readonly groups: readonly PolicyGroup[];
  /** The witness or group that must have cosigned; undefined for `quorum none`. */
  readonly quorum: string | undefined;
}

declare const verified: unique symbol;

/** A checkpoint that a log of the policy signed and its quorum cosigned. verifyCheckpoint is its only source. */
export type VerifiedCheckpoint = Checkpoint & {
  readonly witnesses: readonly { readonly name: string; readonly time: number }[];
  readonly [verified]: true;
};

/** A policy is a page somebody wrote; far more than the format's 32 of each kind fit. */
export const POLICY_BYTES_MAX = 64 * 1024;
const POLICY_LINES_MAX = 256;

/** The policy of someone who has the log's key and asks for no witness. */
export function policyOfLog(verifier: NoteVerifier): LogPolicy {
  checkLogKey(verifier);
  return { logs: [{ verifier }], witnesses: [], groups: [], quorum: undefined };
}

/** Any `quorum` of these witnesses will do; 0 asks for none. What authorities here sign; a policy may say more. */
export interface WitnessQuorum {
  readonly witnesses: readonly PolicyWitness[];
  readonly quorum: number;
}

/** @throws FormatError ERR_LOG_POLICY for a quorum of more than a person can compare at a glance: groups of groups */
export function witnessQuorumOf({ witnesses, groups, quorum }: LogPolicy): WitnessQuorum {
  if (quorum === undefined) return { witnesses, quorum: 0 };
  const [group] = groups;
  if (groups.length === 0) return { witnesses: witnesses.filter(({ name }) => name === quorum), quorum: 1 };
  const all = witnesses.every(({ name }) => group!.members.includes(name));
  if (groups.length > 1 || group!.name !== quorum || !all) throw wrong("its quorum is not one group of all witnesses");
  return { witnesses, quorum: group!.threshold };
}

/** @throws FormatError ERR_LOG_POLICY for a quorum that cannot be reached, and what `parsePolicy` refuses */
export function witnessPolicy(log: PolicyLog, { witnesses, quorum }: WitnessQuorum): LogPolicy {
  const name = "witnesses";
  const asks = quorum !== 0 || witnesses.length > 0;
  const groups = asks ? [{ name, threshold: quorum, members: witnesses.map((witness) => witness.name) }] : [];
  const policy = { logs: [log], witnesses, groups, quorum: asks ? name : undefined };
  if (asks && (!Number.isSafeInteger(quorum) || quorum < 1 || quorum > witnesses.length))
    throw wrong(`a quorum of ${quorum} among ${witnesses.length} witnesses`);
  // Read back: the reader refuses a key listed twice, which would count one witness as two.
  return parsePolicy(utf8(formatPolicy(policy)));
}

/** @throws FormatError ERR_LOG_POLICY, ERR_VKEY and those of the fields */
export function parsePolicy(bytes: Uint8Array): LogPolicy {
  if (bytes.length > POLICY_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const lines = parseUtf8(bytes).split("\n");
  if (lines.length > POLICY_LINES_MAX) throw wrong(`${lines.length} lines`);
  const builder = new PolicyBuilder();
  for (const line of lines) {
    const words = line.trim().split(/[ \t]+/);
    if (words[0] !== "" && !words[0]!.startsWith("#")) builder.add(words, line);
  }
  return builder.finish();
}

export function formatPolicy(policy: LogPolicy): string {
  const url = (item: PolicyLog) => (item.url === undefined ? "" : ` ${item.url}`);
  return [
    ...policy.logs.map((log) => `log ${formatVerifierKey(log.verifier)}${url(log)}\n`),
    ...policy.witnesses.map((w) => `witness ${w.name} ${formatVerifierKey(w.verifier)}${url(w)}\n`),
    ...policy.groups.map((group) => `group ${group.name} ${group.threshold} ${group.members.join(" ")}\n`),
    `quorum ${policy.quorum ?? "none"}\n`,
  ].join("");
}

/**
 * @throws FormatError ERR_NOTE, ERR_CHECKPOINT
 * @throws VerificationError ERR_NOTE_SIGNATURE, ERR_NOTE_UNSIGNED, ERR_LOG_ORIGIN, ERR_WITNESS_QUORUM
 */
export function verifyCheckpoint(policy: LogPolicy, note: Uint8Array): VerifiedCheckpoint {
  const verifiers = [...policy.logs, ...policy.witnesses].map(({ verifier }) => verifier);
  const opened = openNote(note, verifiers);
  const signers = new Map(opened.signatures.map((signature) => [signature.verifier, signature.time]));
  const checkpoint = parseCheckpoint(opened.text);
  // A log's key must not vouch for another log: key name and origin are one (FORMATS "TUF targets").
  if (!policy.logs.some(({ verifier }) => signers.has(verifier) && verifier.name === checkpoint.origin)) {
    throw new VerificationError("ERR_LOG_ORIGIN", `no signature of the log ${quote(checkpoint.origin)} itself`);
  }
  const cosigned = policy.witnesses.filter(({ verifier }) => signers.has(verifier));
  if (policy.quorum !== undefined && !isQuorum(policy, policy.quorum, cosigned)) {
    const names = cosigned.map(({ name }) => name).join(", ") || "no witness";
    throw new VerificationError("ERR_WITNESS_QUORUM", `cosigned by ${names}; ${quote(policy.quorum)} is not reached`);
  }
  const witnesses = cosigned.map(({ name, verifier }) => ({ name, time: signers.get(verifier)! }));
  return { ...checkpoint, witnesses } as unknown as VerifiedCheckpoint;
}

/**
 * The latest time that a quorum of witnesses says has come: one witness with a wrong clock does not move it, and a log
 * cannot. Undefined where the policy asks for no witness.
 */
export function witnessQuorumTime(policy: LogPolicy, { witnesses }: VerifiedCheckpoint): number | undefined {
  const { quorum } = policy;
  if (quorum === undefined) return undefined;
  const times = witnesses.map(({ time }) => time).sort((a, b) => b - a);
  return times.find((time) => {
    const those = witnesses.filter((witness) => witness.time >= time);
    return isQuorum(policy, quorum, those);
  });
}

function isQuorum(policy: LogPolicy, quorum: string, cosigned: readonly { readonly name: string }[]): boolean {
  const satisfied = new Set(cosigned.map(({ name }) => name));
  // Members are defined before the group, so one pass in order settles nested groups too.
  for (const group of policy.groups) {
    const count = group.members.filter((member) => satisfied.has(member)).length;
    if (group.threshold >= 1 && count >= group.threshold) satisfied.add(group.name);
  }
  return satisfied.has(quorum);
}

class PolicyBuilder {
  readonly #logs: PolicyLog[] = [];
  readonly #witnesses: PolicyWitness[] = [];
  readonly #groups: PolicyGroup[] = [];
  readonly #names = new Set<string>(["none"]);
  readonly #members = new Set<string>();
  readonly #keys = new Set<string>();
  #quorum: string | undefined;

  add(words: readonly string[], line: string): void {
    const [kind, ...rest] = words;
    if (kind === "log" && (rest.length === 1 || rest.length === 2)) {
      const verifier = this.#key(rest[0]!);
      checkLogKey(verifier);
      this.#logs.push({ verifier, ...urlOf(rest[1]) });
    } else if (kind === "witness" && (rest.length === 2 || rest.length === 3)) {
      const verifier = this.#key(rest[1]!);
      if (verifier.type !== 4) throw wrong(`a witness key is of type 04: ${quote(line)}`);
      this.#witnesses.push({ name: this.#define(rest[0]!), verifier, ...urlOf(rest[2]) });
    } else if (kind === "group" && rest.length >= 3) {
      this.#addGroup(rest[0]!, rest[1]!, rest.slice(2));
    } else if (kind === "quorum" && rest.length === 1) {
      if (this.#quorum !== undefined) throw wrong("a second quorum line");
      if (!this.#names.has(rest[0]!)) throw wrong(`quorum of an undefined name: ${quote(line)}`);
      this.#quorum = rest[0]!;
    } else {
      throw wrong(`line ${quote(line)}`);
    }
  }

  finish(): LogPolicy {
    if (this.#logs.length === 0) throw wrong("no log");
    if (this.#quorum === undefined) throw wrong("no quorum line; say `quorum none` to ask for no witness");
    return {
      logs: this.#logs,
      witnesses: this.#witnesses,
      groups: this.#groups,
      quorum: this.#quorum === "none" ? undefined : this.#quorum,
    };
  }

  #addGroup(name: string, count: string, members: readonly string[]): void {
    const threshold = count === "any" ? 1 : count === "all" ? members.length : parseDecimal(count);
    if (threshold < 1 || threshold > members.length) throw wrong(`group ${quote(name)} can never or always be reached`);
    for (const member of members) {
      if (member === "none" || !this.#names.has(member)) throw wrong(`undefined member ${quote(member)}`);
      if (this.#members.has(member)) throw wrong(`${quote(member)} is a member twice`);
      this.#members.add(member);
    }
    this.#groups.push({ name: this.#define(name), threshold, members });
  }

  #define(name: string): string {
    if (this.#names.has(name)) throw wrong(`the name ${quote(name)} is taken`);
    this.#names.add(name);
    return name;
  }

  #key(vkey: string): NoteVerifier {
    const verifier = parseVerifierKey(vkey);
    const bytes = formatHex(verifier.key.raw);
    if (this.#keys.has(bytes)) throw wrong(`the key of ${quote(vkey)} appears twice`);
    this.#keys.add(bytes);
    return verifier;
  }
}

function checkLogKey(verifier: NoteVerifier): void {
  if (verifier.type !== 1) throw wrong(`a log key is of type 01: ${quote(verifier.name)}`);
}

function urlOf(url: string | undefined): { url?: string } {
  return url === undefined ? {} : { url };
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_LOG_POLICY", `not a log policy: ${reason}`);
}
