/**
 * What each command does, apart from how it looks: the thin rim between home folder, vault and the pure reviews.
 *
 * Whatever is refused is refused before the journal is written and before a signature exists.
 */

import { randomBytes } from "node:crypto";
import path from "node:path";
import {
  createKeystore,
  ensureFolder,
  KEYSTORE_BYTES_MAX,
  lockFolder,
  PUBLIC_FILE,
  putImmutable,
  readFileIfPresent,
} from "@viafabric/platform";
import {
  type Algorithm,
  type EventBody,
  equalBytes,
  formatHex,
  OperationError,
  type PublicKey,
  quote,
  type Signer,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import type { Mirror } from "@viafabric/transparency-log/client";
import {
  createEnrolmentCard,
  type EnrolmentCard,
  type Expiry,
  GENESIS_ROLES,
  GENESIS_SIGNATURES_BYTES_MAX,
  type GenesisParts,
  isMetadataSignature,
  keyId,
  type Proposal,
  parseGenesisSignatures,
  parseSigned,
  provenRejections,
  type Rotated,
  rejectionInput,
  signGenesis,
  signMetadata,
  signRejection,
  type TrustedState,
} from "@viafabric/tuf";
import { type Accepted, acceptPublished } from "./accepted.ts";
import { calendarOf } from "./calendar.ts";
import { type GenesisReview, readGenesisFolder, reviewGenesis } from "./genesis.ts";
import { createHome, type Home, openSigner, readFirstRoot, readOwnKey, writeFirstRoot } from "./home.ts";
import { idOf, type Review, reviewProposal } from "./review.ts";
import { type Decision, openSignedJournal, type SignedJournal, verifyDecision } from "./signed-journal.ts";
import { createEventBody, reviewEventBody, type StatusWish, signEventBody } from "./status-event.ts";
import { adoptTokenKey, readTokenFile, type TokenPlace } from "./token-key.ts";
import {
  type Approval,
  type OpenProposal,
  type OpenStatusEvent,
  type ProposalDetail,
  type VaultClient,
  vaultClient,
} from "./vault-client.ts";

/** What every command on a running authority needs. */
export interface Session {
  readonly home: Home;
  readonly vaultUrl: string;
  /** The published tree, from the vault or any mirrors. */
  readonly mirrors: readonly Mirror[];
  /** Where proposals lie and decisions go, when that is not the vault. */
  readonly desk?: Desk;
  /** Unix seconds. */
  readonly now: () => number;
}

/** How long ago a proposal was drawn up that is still shown with the reasons against it. */
const REJECTED_SHOWN_SECONDS = 30 * 86_400;

/** A vault, or a file on a stick. */
export type Desk = Pick<VaultClient, "proposal" | "approve" | "reject">;

/** Asked for once it is needed, after consent. */
export type Secret = () => Promise<string>;

/** Asked before anything is signed, with the thing to be signed. No answer means no. */
export type Consent<Subject> = (subject: Subject) => Promise<boolean>;

export async function init(home: Home, name: string, passphrase: string): Promise<EnrolmentCard> {
  await createHome(home);
  if (await readTokenFile(home.token))
    throw new OperationError("ERR_HOME", `${home.token} already names a key; choose another home folder`);
  const signer = await createKeystore(home.keystore, passphrase);
  const card = await createEnrolmentCard(signer, { name, role: "trustee" });
  await putImmutable(home.card, card.bytes, PUBLIC_FILE);
  return card;
}

/** The same with a key in a token; `make` when it is not there yet. */
export async function initToken(
  home: Home,
  name: string,
  place: TokenPlace,
  pin: string,
  make?: Algorithm,
): Promise<EnrolmentCard> {
  await createHome(home);
  if (await readFileIfPresent(home.keystore, KEYSTORE_BYTES_MAX))
    throw new OperationError("ERR_HOME", `${home.keystore} already holds a key; choose another home folder`);
  const signer = await adoptTokenKey(home.token, place, pin, make);
  const card = await createEnrolmentCard(signer, { name, role: "trustee" });
  await putImmutable(home.card, card.bytes, PUBLIC_FILE);
  return card;
}

export async function reviewEnrolment(home: Home, folder: string, now: number): Promise<GenesisReview> {
  return reviewGenesis(await readGenesisFolder(folder), await readOwnKey(home), now);
}

/** Signs the first root, targets and batches. @returns the signature file written into the genesis folder */
export async function enroll(
  home: Home,
  folder: string,
  review: GenesisReview,
  passphrase: Secret,
  now: number,
): Promise<string> {
  const signer = await openSigner(home, await passphrase());
  return withJournal(home, async (journal) => {
    const decisions = GENESIS_ROLES.map((role): Decision => {
      return { kind: "sign", role, version: 1, id: sha256(review.parts[role]), time: now };
    });
    for (const decision of decisions) verifyDecision(journal.decisions, decision);
    await writeFirstRoot(home, review.parts.root);
    for (const decision of decisions) await journal.record(decision);
    const file = path.join(folder, "signatures", `${formatHex(signer.publicKey.kid)}.json`);
    await ensureFolder(path.dirname(file));
    // P-256 signatures differ each time: those that are there are as good.
    if (await hasSigned(file, signer.publicKey, review.parts)) return file;
    await putImmutable(file, await signGenesis(signer, review.parts));
    return file;
  });
}

async function hasSigned(file: string, key: PublicKey, parts: GenesisParts): Promise<boolean> {
  const bytes = await readFileIfPresent(file, GENESIS_SIGNATURES_BYTES_MAX);
  if (!bytes) return false;
  const signatures = parseGenesisSignatures(bytes);
  return GENESIS_ROLES.every((role) => isMetadataSignature(key, parts[role], signatures[role].sig));
}

export interface StatusReport {
  readonly accepted: Accepted;
  /** The open ones, with the rejections that prove themselves. */
  readonly proposals: readonly (OpenProposal & { readonly needsMe: boolean; readonly mine: string | undefined })[];
  /** Those that trustees rejected lately, and why. */
  readonly rejected: readonly OpenProposal[];
  readonly events: readonly (OpenStatusEvent & { readonly needsMe: boolean })[];
  readonly expiries: readonly Expiry[];
}

export async function status(session: Session): Promise<StatusReport> {
  const { home } = session;
  const accepted = await acceptPublished(home, session.mirrors, session.now());
  const vault = await openVault(session);
  const [proposals, events, own] = [await vault.proposals(), await vault.statusEvents(), await readOwnKey(home)];
  const rejected = (await vault.proposals("rejected")).filter(
    ({ created }) => created > session.now() - REJECTED_SHOWN_SECONDS,
  );
  return withJournal(home, async ({ decisions }) => {
    const mine = (id: Uint8Array) => decisions.find((known) => equalBytes(known.id, id))?.kind;
    return {
      accepted,
      proposals: proposals.map((proposal) => {
        const decision = mine(proposal.id);
        return { ...proven(proposal, accepted.trust), mine: decision, needsMe: decision === undefined };
      }),
      rejected: rejected.map((proposal) => proven(proposal, accepted.trust)),
      events: events.map((event) => {
        const signed = event.signatures.some(({ kid }) => equalBytes(kid, own.kid));
        return { ...event, needsMe: !signed && event.signatures.length < event.threshold };
      }),
      expiries: calendarOf(accepted.trust, session.now()),
    };
  });
}

/** What a vault says that a trustee said is shown only where the trustee's key says so too. */
function proven(proposal: OpenProposal, trust: TrustedState): OpenProposal {
  const quorums = [trust.approvers, trust.trustees, trust.root.roles.root];
  const { id, rejections } = proposal;
  return { ...proposal, rejections: provenRejections({ id, quorums }, trust.authority, rejections) };
}

export async function review(
  session: Session,
  id: Uint8Array,
): Promise<{ readonly review: Review; readonly accepted: Accepted }> {
  const now = session.now();
  const accepted = await acceptPublished(session.home, session.mirrors, now);
  const desk = await openDesk(session);
  return { review: await reviewProposal(id, await desk.proposal(id), accepted, now), accepted };
}

/** @returns undefined when consent was refused. @throws VerificationError ERR_PROPOSAL_TWICE and all of review */
export async function sign(
  session: Session,
  id: Uint8Array,
  passphrase: Secret,
  consent: Consent<Review>,
): Promise<Review | undefined> {
  const { review: looked } = await review(session, id);
  const decisions = decisionsOn("sign", looked.proposal, looked.parts, session.now());
  return withJournal(session.home, async (journal) => {
    for (const decision of decisions) verifyDecision(journal.decisions, decision, looked.dead);
    const own = await readOwnKey(session.home);
    assertVoice(looked, own);
    assertTaken(looked, own);
    if (!(await consent(looked))) return undefined;
    const signer = await openSigner(session.home, await passphrase());
    for (const decision of decisions) await journal.record(decision, looked.dead);
    const desk = await openDesk(session);
    await desk.approve(signer, id, await approvalBy(signer, looked));
    return looked;
  });
}

/**
 * A rejection needs no review: it is the answer to what could not be reviewed, too.
 * @returns whether there was consent
 */
export async function reject(
  session: Session,
  id: Uint8Array,
  reason: string,
  passphrase: Secret,
  consent: Consent<ProposalDetail>,
): Promise<boolean> {
  const { authority } = await readFirstRoot(session.home);
  rejectionInput(authority, id, reason);
  const desk = await openDesk(session);
  const detail = await desk.proposal(id);
  const decisions = decisionsOn("reject", { ...detail, id }, partsOf(detail, id), session.now());
  return withJournal(session.home, async (journal) => {
    for (const decision of decisions) verifyDecision(journal.decisions, decision);
    if (!(await consent(detail))) return false;
    const signer = await openSigner(session.home, await passphrase());
    const rejection = await signRejection(signer, authority, id, reason);
    for (const decision of decisions) await journal.record(decision);
    await desk.reject(signer, id, rejection);
    return true;
  });
}

type Signable = Pick<Proposal, "id" | "role" | "version" | "signed">;

/**
 * What is remembered of a proposal: its id, and of a rotation each part as well, so that no part is signed or rejected
 * again in other company.
 */
function decisionsOn(
  kind: "sign" | "reject",
  { id, role, version, signed }: Signable,
  parts: Pick<Rotated<Signable>, "targets" | "batches"> | undefined,
  time: number,
): readonly Decision[] {
  if (!parts) return [{ kind, role, version, id, time }];
  const all = [{ role, version, signed }, parts.targets, parts.batches];
  const each = all.map((part): Decision => {
    return { kind, role: part.role, version: part.version, id: sha256(part.signed), time };
  });
  return [{ kind, role: "", version: 0, id, time }, ...each];
}

/** Those of a rotation that does not hold together are not remembered: only its id is known to be what was shown. */
function partsOf(detail: ProposalDetail, id: Uint8Array): Pick<Rotated<Signable>, "targets" | "batches"> | undefined {
  const { parts } = detail;
  if (!parts || !equalBytes(idOf(detail), id)) return undefined;
  const part = (role: "targets" | "batches"): Signable => {
    const signed = parts[role];
    return { id: sha256(signed), role, version: parseSigned("targets", signed).version, signed };
  };
  return { targets: part("targets"), batches: part("batches") };
}

async function approvalBy(signer: Signer, { proposal, parts }: Review): Promise<Approval> {
  const approval = await signMetadata(signer, proposal.signed);
  if (!parts) return approval;
  const sigOf = async (role: "targets" | "batches") => (await signMetadata(signer, parts[role].signed)).sig;
  return { ...approval, parts: { targets: await sigOf("targets"), batches: await sigOf("batches") } };
}

export interface ProposedEvent {
  readonly id: Uint8Array;
  readonly body: Uint8Array;
}

/** @returns undefined when consent was refused */
export async function proposeEvent(
  session: Session,
  wish: StatusWish,
  passphrase: Secret,
  consent: Consent<ProposedEvent>,
): Promise<ProposedEvent | undefined> {
  const now = session.now();
  // A revocation must not wait for other people's witnesses; the event says nothing about the log.
  const { trust } = await acceptPublished(session.home, session.mirrors, now, "anybody");
  const body = createEventBody(wish, trust, new Uint8Array(randomBytes(16)), now);
  const event = { id: sha256(body), body };
  if (!(await consent(event))) return undefined;
  await withSignedEvent(session, event, trust, passphrase, (vault, signer, signature) =>
    vault.propose(signer, body, signature),
  );
  return event;
}

/** @returns undefined when consent was refused */
export async function joinEvent(
  session: Session,
  id: Uint8Array,
  passphrase: Secret,
  consent: Consent<EventBody>,
): Promise<EventBody | undefined> {
  const now = session.now();
  // A revocation must not wait for other people's witnesses; the event says nothing about the log.
  const { trust } = await acceptPublished(session.home, session.mirrors, now, "anybody");
  const { body } = await (await openVault(session)).statusEvent(id);
  const event = reviewEventBody(id, body, trust, now);
  if (!(await consent(event))) return undefined;
  await withSignedEvent(session, { id, body }, trust, passphrase, (vault, signer, signature) =>
    vault.sign(signer, id, signature),
  );
  return event;
}

async function withSignedEvent(
  session: Session,
  { id, body }: ProposedEvent,
  { authority }: TrustedState,
  passphrase: Secret,
  send: (vault: VaultClient, signer: Signer, signature: Uint8Array) => Promise<void>,
): Promise<void> {
  await withJournal(session.home, async (journal) => {
    const signer = await openSigner(session.home, await passphrase());
    await journal.record({ kind: "event", role: "", version: 0, id, time: session.now() });
    await send(await openVault(session), signer, await signEventBody(signer, authority, body));
  });
}

async function openDesk(session: Session): Promise<Desk> {
  return session.desk ?? openVault(session);
}

export async function openVault({ home, vaultUrl, now }: Session): Promise<VaultClient> {
  return vaultClient(vaultUrl, (await readFirstRoot(home)).authority, now);
}

/** One command at a time decides in a home folder: two could each sign another proposal of one version. */
export async function withJournal<T>(home: Home, work: (journal: SignedJournal) => Promise<T>): Promise<T> {
  const unlock = await lockFolder(home.folder);
  try {
    const journal = await openSignedJournal(home.journal);
    try {
      return await work(journal);
    } finally {
      await journal.close();
    }
  } finally {
    await unlock();
  }
}

/** What the vault would refuse anyway is not signed and remembered first. */
function assertTaken({ told }: Review, { kid }: PublicKey): void {
  if (!["open", "ready", "published"].includes(told.state))
    throw new VerificationError("ERR_PROPOSAL_CLOSED", `the vault says that the proposal is ${quote(told.state)}`);
  if (told.requestedBy.some((asked) => equalBytes(asked, kid)) && !told.ownApprovals)
    throw new VerificationError("ERR_OWN_REQUEST", "you asked for this yourself; other trustees have to approve it");
}

function assertVoice({ proposal }: Review, key: PublicKey): void {
  const own = keyId(key);
  if (!proposal.quorums.some((role) => role.keys.some((key) => keyId(key) === own)))
    throw new VerificationError("ERR_PROPOSAL_POLICY", `your key has no say in ${proposal.role} ${proposal.version}`);
}
