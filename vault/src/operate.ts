/** What an operator does from the command line: ask for a batch, wait for what trustees and sequencer make of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { readFileBounded } from "@viafabric/platform";
import {
  decodeManifest,
  type FormatError,
  formatHex,
  OperationError,
  type Purpose,
  parseBase64,
  parseHex,
  parseWords,
  quote,
  type Signer,
  VerificationError,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import type { Answer, VaultClient } from "./client.ts";

export interface BatchWishes {
  /** Files, one for each batch. */
  readonly subjects: readonly string[];
  readonly profile?: string;
  readonly creditClass: string;
  readonly quota: number;
  readonly unit: string;
  readonly days: number;
  readonly claimDays: number;
  readonly layout: string;
  readonly tagClass: string;
  readonly offline: string;
  readonly station?: string;
  readonly release?: string;
}

/** 100,000 did:keys, a line each. */
const SUBJECTS_BYTES_MAX = 16 * 1024 * 1024;
const DAY = 86_400;
const POLL_MILLISECONDS = 300;

/** The request as JSON: one batch for each file of subjects. Where only one station, officer or profile exists, it need not be named. */
export async function batchRequestOf(wishes: BatchWishes, trusted: TrustedState, now: number): Promise<unknown> {
  const common = {
    profile: wishes.profile ?? only("profile", [...trusted.rules.ages.keys()]),
    creditClass: wishes.creditClass,
    quota: wishes.quota,
    unit: wishes.unit,
    nbf: now,
    claimBy: now + wishes.claimDays * DAY,
    exp: now + wishes.days * DAY,
    claim: "known",
    layout: wishes.layout,
    tagClass: wishes.tagClass,
    offline: wishes.offline,
    station: wishes.station ?? only("station", keysOf(trusted, "station", now)),
    release: wishes.release ?? only("release", keysOf(trusted, "release", now)),
  };
  const batches: unknown[] = [];
  for (const file of wishes.subjects) batches.push({ ...common, subjects: await readSubjects(file) });
  return batches.length === 1 ? batches[0] : { batches };
}

async function readSubjects(file: string): Promise<readonly string[]> {
  const text = Buffer.from(await readFileBounded(file, SUBJECTS_BYTES_MAX)).toString("utf8");
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function keysOf(trusted: TrustedState, purpose: Purpose, now: number): readonly string[] {
  return trusted.keys
    .filter((entry) => entry.purpose === purpose && entry.from <= now && now < entry.until)
    .map((entry) => formatHex(entry.key.kid));
}

function only(what: string, known: readonly string[]): string {
  const [first, ...others] = known;
  if (first !== undefined && others.length === 0) return first;
  throw new OperationError("ERR_USAGE", `name the ${what} with --${what}; known are: ${known.join(", ") || "none"}`);
}

export type RequestPath = "requests" | "trust-requests" | "rotation-requests";

export interface Requested {
  readonly id: string;
  /** The proposal that trustees see. */
  readonly event: string;
  readonly words: string;
}

/**
 * Sends a request and waits for its proposal. While another proposal of the same role is before the trustees, it waits.
 * @param path `requests` for batches, `trust-requests` for a change of the key list, `rotation-requests` for another root
 * @param note says what it waits for, when it waits
 * @throws VerificationError ERR_BATCH_REFUSED; OperationError ERR_TIMEOUT
 */
export async function sendRequest(
  vault: VaultClient,
  operator: Signer,
  path: RequestPath,
  body: unknown,
  secondsMax: number,
  note: (text: string) => void = () => {},
): Promise<Requested> {
  // Before the request is made, so that it is never the request's own.
  const ahead = await proposalAhead(vault, path);
  const { id } = await vault.post(path, body, operator);
  const behind = ahead === undefined ? "" : `: it waits until proposal ${ahead} has ended`;
  let told = ahead === undefined;
  const event = await poll(secondsMax, `proposal yet for request ${String(id)}${behind}`, async () => {
    const request = await vault.find(`requests/${id}`);
    if (request?.state === "refused") throw new VerificationError("ERR_BATCH_REFUSED", String(request.refusal));
    if (typeof request?.event === "string") return request.event;
    if (!told) note(`request ${String(id)} is taken${behind}`);
    told = true;
    return undefined;
  });
  const found = await vault.find(`events/${event}`);
  return { id: String(id), event, words: String(found?.words) };
}

/** What a request waits for: an open proposal of its role; a rotation for any, and any for a rotation. */
async function proposalAhead(vault: VaultClient, path: RequestPath): Promise<string | undefined> {
  const roles = {
    requests: ["batches", "root"],
    "trust-requests": ["targets", "root"],
    "rotation-requests": ["batches", "targets", "root"],
  };
  const { events } = (await vault.find("events?state=open")) ?? {};
  const open = (events ?? []) as readonly { readonly id: string; readonly role: string }[];
  return open.find(({ role }) => roles[path].includes(role))?.id;
}

/**
 * Takes back what this operator asked for: a proposal that trustees look at, or a request that still waits.
 * @returns what it was
 */
export async function withdraw(vault: VaultClient, operator: Signer, id: Uint8Array): Promise<"event" | "request"> {
  const name = formatHex(id);
  const [path, what] = (await vault.find(`events/${name}`))
    ? ["events", "event" as const]
    : ["requests", "request" as const];
  await vault.post(`${path}/${name}/withdrawal`, undefined, operator);
  return what;
}

export interface Outcome {
  readonly id: string;
  readonly state: string;
  /** Numbers of the batches that a proposal brought. */
  readonly batches: readonly number[];
  readonly checkpoint: string;
}

/** An event that will never be published. */
const DEAD = ["expired", "rejected", "superseded", "refused"];

/**
 * Waits until a signing event or a status event is published.
 * @throws VerificationError ERR_PROPOSAL_CLOSED when it ended otherwise; OperationError ERR_TIMEOUT
 */
export async function waitFor(vault: VaultClient, id: Uint8Array, secondsMax: number): Promise<Outcome> {
  const name = formatHex(id);
  const found = await poll(secondsMax, `event ${name}`, async () => {
    const event = (await vault.find(`events/${name}`)) ?? (await vault.find(`status-events/${name}`));
    if (!event) throw new OperationError("ERR_NOT_FOUND", `the vault knows no event ${name}`);
    const state = String(event.state);
    if (DEAD.includes(state)) {
      const reason = typeof event.endReason === "string" ? `: ${quote(event.endReason)}` : "";
      throw new VerificationError("ERR_PROPOSAL_CLOSED", `event ${name} is ${state}${reason}`);
    }
    // In force, but a batch without its proof is one that no node takes and no station can write.
    return state === "published" && event.proven !== false ? event : undefined;
  });
  return {
    id: name,
    state: "published",
    batches: batchesOf(found),
    checkpoint: await vault.text("public/log/checkpoint"),
  };
}

function batchesOf(event: Answer): readonly number[] {
  const attachments = Object.entries((event.attachments ?? {}) as Record<string, unknown>);
  return attachments
    .filter(([name]) => name.startsWith("manifest/"))
    .map(([, text]) => decodeManifest(parseBase64(String(text))).seq)
    .sort((a, b) => a - b);
}

/** Whole ids only, in hex or as 24 words: a prefix can be made to match. */
export function parseEventId(text: string): Uint8Array {
  try {
    return text.includes(" ") ? parseWords(text) : parseHex(text, 32);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", (cause as FormatError).message, { cause });
  }
}

async function poll<T>(secondsMax: number, what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + secondsMax * 1000; ; await sleep(POLL_MILLISECONDS)) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() >= deadline)
      throw new OperationError("ERR_TIMEOUT", `no ${what} within ${secondsMax} seconds`, { retryable: true });
  }
}
