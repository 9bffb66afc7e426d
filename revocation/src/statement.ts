/**
 * The status statement: what the status key says, hourly, about all three planes (FORMATS "Status").
 *
 *     <authority hex>/status            also the name of the key in the note
 *     <epoch>                           1, 2, 3, …
 *     <N>                               highest logged first + count: no status is known from here on
 *     <hash of the previous text>       base64; zeros in epoch 1
 *     <log size> <log root>             what it was computed from
 *     <batches version>                 a node must have seen this version of the head
 *     <issued>                          unix seconds
 *     <next>                            when to expect the next one
 *     <soft> <hard>                     ages in seconds: aging after soft, refused after hard
 *     <plane> <count> <root>            three lines: 0 revoked, 1 suspended, 2 unreleased
 *
 * A signed note (C2SP signed-note) of one Ed25519 status key. The statement authenticates the sets through their
 * roots; it names no files, because their names can be computed.
 */
import {
  type Ages,
  equalBytes,
  FormatError,
  formatBase64,
  formatHex,
  HASH_BYTES,
  type Hash,
  type KeyEntry,
  noteVerifier,
  openNote,
  parseBase64,
  parseDecimal,
  parseHex,
  parseNote,
  quote,
  sha256,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { PLANES, type Plane, type SignedSet } from "./container.ts";
import { UNIVERSE_MAX } from "./index-set.ts";

export interface PlaneState {
  readonly count: number;
  readonly root: Hash;
}

/** Times are unix seconds, ages seconds. */
export interface Statement {
  readonly authority: Uint8Array;
  readonly epoch: number;
  readonly n: number;
  /** SHA-256 of the text of the statement before; 32 zero bytes in epoch 1. */
  readonly previous: Hash;
  readonly log: { readonly size: number; readonly root: Hash };
  readonly batches: number;
  readonly issued: number;
  readonly next: number;
  readonly ages: Ages;
  readonly planes: readonly [PlaneState, PlaneState, PlaneState];
}

declare const verified: unique symbol;

/** A statement that a listed status key signed; verifyStatement is its only source. */
export interface VerifiedStatement {
  readonly statement: Statement;
  readonly text: string;
  /** What the next statement names as `previous`. */
  readonly hash: Hash;
  readonly signer: KeyEntry;
  readonly [verified]: true;
}

/** Measured 526; the largest numbers add less than 100. */
export const STATEMENT_NOTE_BYTES_MAX = 2048;
/** A statement from further in the future was not signed by a clock that can be believed. */
export const STATEMENT_AHEAD_SECONDS_MAX = 24 * 3600;

const EPOCH_MAX = 2 ** 32 - 1;
const LINES = 12;
const NO_PREVIOUS: Hash = new Uint8Array(HASH_BYTES);

/** The first line, and the name of the status key in the note. */
export function statementName(authority: Uint8Array): string {
  return `${formatHex(authority)}/status`;
}

export function formatStatement(s: Statement): string {
  const lines = [
    statementName(s.authority),
    s.epoch,
    s.n,
    formatBase64(s.previous),
    `${s.log.size} ${formatBase64(s.log.root)}`,
    s.batches,
    s.issued,
    s.next,
    `${s.ages.soft} ${s.ages.hard}`,
    ...s.planes.map(({ count, root }, plane) => `${plane} ${count} ${formatBase64(root)}`),
  ];
  return `${lines.join("\n")}\n`;
}

/** @throws FormatError ERR_STATEMENT */
export function parseStatement(text: string): Statement {
  const lines = text.split("\n");
  if (lines.length !== LINES + 1 || lines[LINES] !== "") throw wrong("it has twelve lines");
  const [name, epoch, n, previous, log, batches, issued, next, ages, ...planes] = lines as [string, ...string[]];
  if (!name.endsWith("/status")) throw wrong(`it begins with ${quote(name)}`);
  const [size, logRoot] = pair(log!);
  const [soft, hard] = pair(ages!);
  const statement: Statement = {
    authority: parseHex(name.slice(0, -"/status".length), 32),
    epoch: parseDecimal(epoch!, EPOCH_MAX),
    n: parseDecimal(n!, UNIVERSE_MAX),
    previous: parseBase64(previous!, HASH_BYTES),
    log: { size: parseDecimal(size), root: parseBase64(logRoot, HASH_BYTES) },
    batches: parseDecimal(batches!),
    issued: parseDecimal(issued!),
    next: parseDecimal(next!),
    ages: { soft: parseDecimal(soft), hard: parseDecimal(hard) },
    planes: [parsePlane(planes[0]!, 0), parsePlane(planes[1]!, 1), parsePlane(planes[2]!, 2)],
  };
  checkStatement(statement);
  // Each field has one spelling already; this holds for whatever a rule above forgot.
  if (formatStatement(statement) !== text) throw wrong("another spelling");
  return statement;
}

function parsePlane(line: string, plane: Plane): PlaneState {
  const [number, count, root] = line.split(" ");
  if (number !== String(plane) || !count || !root) throw wrong(`plane ${plane} reads ${quote(line)}`);
  return { count: parseDecimal(count, UNIVERSE_MAX), root: parseBase64(root, HASH_BYTES) };
}

function checkStatement(s: Statement): void {
  if (s.epoch < 1) throw wrong("epochs begin at 1");
  if (equalBytes(s.previous, NO_PREVIOUS) !== (s.epoch === 1)) throw wrong("only epoch 1 has no previous statement");
  if (s.next <= s.issued) throw wrong("the next one is due before this one");
  if (s.ages.hard < s.ages.soft) throw wrong("the hard age is below the soft age");
  for (const { count } of s.planes) if (count > s.n) throw wrong(`${count} members among ${s.n} indices`);
}

/** SHA-256 of the text: links the chain. */
export function statementHash(text: string): Hash {
  return sha256(utf8(text));
}

/** What follows `previous` (undefined for epoch 1), ready to be formatted and signed. */
export function nextStatement(
  previous: Pick<VerifiedStatement, "statement" | "hash"> | undefined,
  now: Omit<Statement, "epoch" | "previous">,
): Statement {
  const epoch = previous ? previous.statement.epoch + 1 : 1;
  const statement = { ...now, epoch, previous: previous?.hash ?? NO_PREVIOUS };
  // Through the parser, so that nothing is signed which nobody would read.
  return parseStatement(formatStatement(statement));
}

/** What the statement signs about one plane, as the set files are compared with it. */
export function signedSet({ epoch, n, planes }: Statement, plane: Plane): SignedSet {
  return { plane, epoch, n, ...planes[plane] };
}

/**
 * @param keys the trust keys; a status key counts if it is listed as one and valid when the statement was issued
 * @throws FormatError, VerificationError ERR_NOTE_UNSIGNED, ERR_NOTE_SIGNATURE, ERR_AUTHORITY
 */
export function verifyStatement(
  note: Uint8Array,
  trusted: { readonly authority: Uint8Array; readonly keys: readonly KeyEntry[] },
): VerifiedStatement {
  if (note.length > STATEMENT_NOTE_BYTES_MAX) throw wrong(`${note.length} bytes`);
  const { text } = parseNote(note);
  const statement = parseStatement(text);
  if (!equalBytes(statement.authority, trusted.authority)) {
    throw new VerificationError("ERR_AUTHORITY", "the status statement is of another authority");
  }
  const name = statementName(trusted.authority);
  const candidates = trusted.keys
    .filter(({ purpose, from, until }) => purpose === "status" && from <= statement.issued && statement.issued < until)
    .map((entry) => ({ entry, verifier: noteVerifier(name, entry.key) }));
  const verifiers = candidates.map(({ verifier }) => verifier);
  const signature = openNote(note, verifiers).signatures[0]!;
  const { entry } = candidates.find(({ verifier }) => verifier === signature.verifier)!;
  return { statement, text, hash: statementHash(text), signer: entry } as VerifiedStatement;
}

/**
 * Whether `next` may replace `previous` in a node's memory. Between neighbouring epochs the hash must match; over a
 * longer step pass the statements between (`revocation/e/<epoch>.txt`) one after the other to have the chain checked.
 * @throws VerificationError ERR_STATUS_ROLLBACK, ERR_STATUS_FORK, ERR_STATUS_CHAIN
 */
export function verifySuccessor(previous: VerifiedStatement, next: VerifiedStatement): void {
  const [old, now] = [previous.statement, next.statement];
  if (now.epoch < old.epoch) throw rollback("epoch", old.epoch, now.epoch);
  if (now.epoch === old.epoch && next.text !== previous.text) {
    throw new VerificationError("ERR_STATUS_FORK", `two statements of epoch ${now.epoch}`);
  }
  if (now.n < old.n) throw rollback("N", old.n, now.n);
  if (now.log.size < old.log.size) throw rollback("log size", old.log.size, now.log.size);
  if (now.batches < old.batches) throw rollback("batches version", old.batches, now.batches);
  if (now.issued < old.issued) throw rollback("time of issue", old.issued, now.issued);
  if (now.log.size === old.log.size && !equalBytes(now.log.root, old.log.root)) {
    throw new VerificationError("ERR_STATUS_FORK", `two roots of the log at size ${now.log.size}`);
  }
  if (now.epoch === old.epoch + 1 && !equalBytes(now.previous, previous.hash)) {
    throw new VerificationError("ERR_STATUS_CHAIN", `epoch ${now.epoch} does not follow the epoch ${old.epoch} held`);
  }
}

/** `ahead`: issued further in the future than any good clock allows; no basis for a decision. */
export type Freshness = "fresh" | "aging" | "stale" | "ahead";

/** @param profile ages that the token's profile demands; the smaller of both counts. @param now unix seconds */
export function freshnessOf({ issued, ages }: Statement, profile: Ages | undefined, now: number): Freshness {
  if (issued - now > STATEMENT_AHEAD_SECONDS_MAX) return "ahead";
  const age = now - issued;
  if (age <= Math.min(ages.soft, profile?.soft ?? ages.soft)) return "fresh";
  return age <= Math.min(ages.hard, profile?.hard ?? ages.hard) ? "aging" : "stale";
}

/** The planes in order, as a statement lists them. */
export function planeStates(of: (plane: Plane) => PlaneState): Statement["planes"] {
  const [revoked, suspended, unreleased] = PLANES.map(of) as [PlaneState, PlaneState, PlaneState];
  return [revoked, suspended, unreleased];
}

function pair(line: string): readonly [string, string] {
  const [first, second, ...more] = line.split(" ");
  if (first === undefined || second === undefined || more.length > 0) throw wrong(`not two values: ${quote(line)}`);
  return [first, second];
}

function rollback(what: string, old: number, now: number): VerificationError {
  return new VerificationError("ERR_STATUS_ROLLBACK", `${what} falls from ${old} to ${now}`);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_STATEMENT", `not a status statement: ${reason}`);
}
