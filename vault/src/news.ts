/**
 * News: what happened to proposals and lifetimes, told once each. Pure: rows and a clock reading in, news out; the same
 * fact has the same name whenever it is looked at, and that is how nothing is told twice.
 */
import { formatHex, formatWords } from "@viafabric/schemas";
import type { EventState, Expiry, ProposalRole } from "@viafabric/tuf";

export const NEWS_KINDS = [
  "proposed",
  "approved",
  "rejected",
  "expiring",
  "ready",
  "published",
  "dead",
  "lifetime",
  "test",
] as const;
export type NewsKind = (typeof NEWS_KINDS)[number];

export interface News {
  /** The name of the fact. */
  readonly id: string;
  readonly kind: NewsKind;
  /** Unix seconds: when it happened. */
  readonly at: number;
  /** One line for people. */
  readonly text: string;
  readonly event?: {
    readonly id: string;
    readonly words: string;
    readonly role: ProposalRole;
    readonly version: number;
    readonly expires: number;
    readonly approvals: number;
    readonly threshold: number;
  };
  /** Who approved or rejected, and what they said. */
  readonly trustee?: string;
  readonly reason?: string;
}

/** An event with the times of what was said on it. */
export interface EventHistory {
  readonly id: Uint8Array;
  readonly role: ProposalRole;
  readonly version: number;
  readonly state: EventState;
  readonly since: number;
  readonly created: number;
  readonly expires: number;
  readonly threshold: number;
  readonly endReason?: string;
  readonly approvals: readonly Voice[];
  readonly rejections: readonly (Voice & { readonly reason: string })[];
}

interface Voice {
  readonly keyid: string;
  readonly received: number;
  readonly late: boolean;
}

/** What is older was told, or is not news any more: a vault that learns today whom to tell does not tell its past. */
export const NEWS_SECONDS = 86_400;

export function newsOfEvent(event: EventHistory, now: number): readonly News[] {
  const { role, version, state, since, created, expires, threshold } = event;
  const hex = formatHex(event.id);
  const name = `${role} ${version}`;
  const approvals = event.approvals.filter(({ late }) => !late).length;
  const about = { id: hex, words: formatWords(event.id), role, version, expires, approvals, threshold };
  const news = (kind: NewsKind, at: number, text: string, more: Partial<News> = {}): News => {
    const id = ["event", hex, kind, ...(more.trustee === undefined ? [] : [more.trustee])].join("/");
    return { id, kind, at, text, event: about, ...more };
  };
  const half = created + Math.floor((expires - created) / 2);
  const late = (voice: Voice) => (voice.late ? ", after it was decided" : "");
  const all: readonly (News | false)[] = [
    news("proposed", created, `${name} is before the trustees: ${threshold} have to approve it`),
    ...event.approvals.map((voice) =>
      news("approved", voice.received, `${name} was approved by ${voice.keyid}${late(voice)}`, {
        trustee: voice.keyid,
      }),
    ),
    ...event.rejections.map((voice) => {
      const { keyid, reason } = voice;
      return news("rejected", voice.received, `${name} was rejected by ${keyid}${late(voice)}`, {
        trustee: keyid,
        reason,
      });
    }),
    state === "open" && now >= half && news("expiring", half, `${name} waits, and half of its time is over`),
    state === "ready" && news("ready", since, `${name} has ${threshold} approvals and is being issued`),
    state === "published" && news("published", since, `${name} is published`),
    (state === "expired" || state === "superseded" || state === "rejected") &&
      news("dead", since, `${name} is ${state}: nobody can sign it any more`, {
        ...(event.endReason !== undefined && { reason: event.endReason }),
      }),
  ];
  return all.filter((each): each is News => each !== false && each.at > now - NEWS_SECONDS);
}

/** At half and at 80 % of a life, and at its end; of what has been passed over only the last is told. */
export function newsOfLifetimes(expiries: readonly Expiry[]): readonly News[] {
  return expiries.flatMap(({ what, alarm, half, late, expires }) => {
    if (alarm === "none") return [];
    const at = { "50%": half, "80%": late, expired: expires }[alarm];
    const text = {
      "50%": `half of the life of ${what} is over: plan the next signing`,
      "80%": `80 % of the life of ${what} are over: sign now`,
      expired: `${what} has expired`,
    }[alarm];
    return [{ id: `lifetime/${what}/${expires}/${alarm}`, kind: "lifetime", at, text } as const];
  });
}
