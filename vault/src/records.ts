/**
 * What the vault remembers, as values: the store reads and writes these, everything else speaks them.
 *
 * Times are unix seconds; ids, kids and hashes are 32 bytes unless said.
 */
import type { DetachedSignature } from "@viafabric/schemas";
import type { EventState, Proposal, Rotated, SigningEvent } from "@viafabric/tuf";

/** Who sent a state-changing request. The nonce is spent in the transaction that makes the change. */
export interface Sender {
  readonly kid: Uint8Array;
  readonly nonce: Uint8Array;
  /** After this time the request is refused for its age, and the nonce may be forgotten. */
  readonly nonceUntil: number;
}

/**
 * `planned` while trustees look at it. A request whose event expired or was superseded waits again; one that was
 * rejected does not: whoever asked has to ask again.
 */
export const REQUEST_STATES = ["waiting", "planned", "published", "refused", "rejected", "withdrawn"] as const;
export type RequestState = (typeof REQUEST_STATES)[number];

/** What is asked for: a batch of tokens, another key list, or other trustees and online keys. */
export type RequestKind = "batch" | "targets" | "root";

export interface RequestRecord {
  readonly id: Uint8Array;
  readonly kind: RequestKind;
  readonly kid: Uint8Array;
  /** The exact bytes that the operator signed. */
  readonly body: Uint8Array;
  /** The headers that sign it, one a line. */
  readonly proof: string;
  readonly received: number;
  readonly state: RequestState;
  /** Why it was refused or rejected. */
  readonly refusal?: string;
  /** The last event that was to answer it. */
  readonly event?: Pick<EventRecord, "state" | "endReason"> & { readonly id: Uint8Array };
}

/** A signing event as the rules of `tuf` see it, with what the vault has recorded of its end. */
export interface EventRecord extends SigningEvent {
  readonly state: EventState;
  /** When it came into that state. */
  readonly since: number;
  /** Why it died, where the state does not say it all. */
  readonly endReason?: string;
  /** The metadata file, frozen by the k-th signature. */
  readonly metadata?: Uint8Array;
  /** Who asked for it; nobody for a renewal. */
  readonly requestedBy: readonly Uint8Array[];
  /** Of a root: what is signed together with it. They share its life, and are found nowhere else. */
  readonly parts?: Parts<EventRecord>;
}

/** Targets and batches of a rotation. */
export type Parts<Each> = Pick<Rotated<Each>, "targets" | "batches">;

/** How an event goes on. */
export interface EventMove {
  readonly state: Exclude<EventState, "open">;
  readonly at: number;
  /** With `ready`. */
  readonly metadata?: Uint8Array;
  /** With `ready`, of a rotation: the files of its parts. */
  readonly parts?: Parts<Uint8Array>;
  readonly reason?: string;
}

export interface AttachmentRecord {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface BatchRecord {
  readonly manifestHash: Uint8Array;
  readonly eventId: Uint8Array;
  readonly seq: number;
  readonly first: number;
  readonly count: number;
  readonly manifest: Uint8Array;
  /** Sealed under the vault's own key. */
  readonly uidKey: Uint8Array;
  readonly leafIndex?: number;
}

export interface TokenRecord {
  readonly index: number;
  readonly rctId: Uint8Array;
  readonly subject: string;
  readonly confirmation?: Uint8Array;
  /** Sealed under the vault's own key. */
  readonly claimSecret?: Uint8Array;
}

/** A plan, frozen: everything that must exist before a trustee sees any of it. */
export interface PlannedEvent {
  readonly proposal: Proposal;
  /** Of a rotation. */
  readonly parts?: Parts<Proposal>;
  readonly attachments: readonly AttachmentRecord[];
  readonly batches: readonly { readonly batch: BatchRecord; readonly tokens: readonly TokenRecord[] }[];
}

/** `refused`: it carries enough signatures, and does not fit what is in the log. */
export type StatusEventState = "open" | "logged" | "published" | "expired" | "refused";

export interface StatusEventRecord {
  readonly id: Uint8Array;
  readonly body: Uint8Array;
  readonly action: string;
  readonly state: StatusEventState;
  readonly created: number;
  readonly notAfter: number;
  readonly leafIndex?: number;
}

export interface StatusEventWithSignatures extends StatusEventRecord {
  readonly signatures: readonly DetachedSignature[];
}

export interface KitRecord {
  /** 16 bytes. */
  readonly id: Uint8Array;
  readonly manifestHash: Uint8Array;
  readonly station: Uint8Array;
  readonly first: number;
  readonly count: number;
  readonly created: number;
}

export interface ReceiptRecord {
  readonly kitId: Uint8Array;
  readonly seq: number;
  readonly index: number;
  readonly result: string;
  readonly bytes: Uint8Array;
  readonly received: number;
}

/** What a publication makes public, besides files. */
export interface PublishedWhat {
  /** Signing events. */
  readonly events: readonly Uint8Array[];
  readonly statusEvents: readonly Uint8Array[];
  /** Ids of those whose proofs and kits wait until enough witnesses have cosigned the log. */
  readonly unproven?: readonly Uint8Array[];
  /** Ids of those that waited, and whose proofs are out now. */
  readonly proven?: readonly Uint8Array[];
  /** Whether other witnesses count from now on: what is public waits for proofs that those have seen. */
  readonly proveAgain?: boolean;
  /** Kits that may be fetched from now on. */
  readonly kits: readonly KitRecord[];
}

export interface LogHeadRecord {
  readonly size: number;
  readonly root: Uint8Array;
  readonly note: Uint8Array;
}

export interface Counts {
  readonly requestsWaiting: number;
  readonly eventsOpen: number;
  readonly batchesLogged: number;
  readonly tokensLogged: number;
  readonly statusEventsOpen: number;
  readonly receipts: number;
}

export type NotificationState = "pending" | "sending" | "sent" | "failed" | "unknown";

export interface NotificationRecord {
  readonly id: string;
  readonly channel: string;
  readonly body: string;
  /** With the one that was just begun. */
  readonly attempts: number;
}
