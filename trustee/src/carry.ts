/**
 * The way of a proposal to a laptop without a network, and of the answer back.
 *
 *     export (online)  →  import, review, sign or reject (offline)  →  submit (online)
 *
 * The vault takes an approval from whoever brings it, because it proves itself; only the request must be signed by
 * some trustee. So the key of the offline trustee never meets a network, and nothing it signs gets stale on the way.
 */
import { putImmutable, readFileBounded, writeFileDurable } from "@viafabric/platform";
import { type CodedError, equalBytes, FormatError, formatHex, VerificationError } from "@viafabric/schemas";
import { type Accepted, acceptPublished } from "./accepted.ts";
import {
  CARRIED_BYTES_MAX,
  type Carried,
  carriedMirror,
  carriedProposal,
  decodeCarried,
  encodeCarried,
  type Gathered,
  gather,
} from "./carried.ts";
import { type Desk, openVault, type Secret, type Session, withJournal } from "./commands.ts";
import { type CarriedDecision, DECISION_BYTES_MAX, encodeDecisionFile, parseDecisionFile } from "./decision-file.ts";
import { type Home, openSigner, readFirstRoot } from "./home.ts";
import { type Review, reviewProposal } from "./review.ts";
import type { Decision } from "./signed-journal.ts";
import type { ProposalDetail } from "./vault-client.ts";

/** @param ids undefined: every open proposal */
export async function exportProposals(
  session: Session,
  ids: readonly Uint8Array[] | undefined,
  file: string,
): Promise<Gathered> {
  const vault = await openVault(session);
  const wanted = ids ?? (await vault.proposals()).map(({ id }) => id);
  const details: ProposalDetail[] = [];
  for (const id of wanted) details.push({ ...(await vault.proposal(id)), id });
  const gathered = await gather(session.home, session.mirrors, details, session.now());
  await writeFileDurable(file, encodeCarried(gathered.carried));
  return gathered;
}

/** @throws FormatError ERR_CARRIED; VerificationError ERR_AUTHORITY when it belongs to another authority than `home` */
export async function readCarried(home: Home, file: string): Promise<Carried> {
  const carried = decodeCarried(await readFileBounded(file, CARRIED_BYTES_MAX));
  const { authority } = await readFirstRoot(home);
  if (!equalBytes(carried.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", `${file} is of authority ${formatHex(carried.authority)}`);
  return carried;
}

/** A session that touches no network. @param out where a decision is written */
export function offlineSession(home: Home, carried: Carried, out: string | undefined, now: () => number): Session {
  const { authority } = carried;
  const write = async (decision: CarriedDecision): Promise<void> => {
    if (out !== undefined) await putImmutable(out, encodeDecisionFile(decision));
  };
  const desk: Desk = {
    proposal: async (id) => carriedProposal(carried, id),
    approve: (_signer, id, approval) => write({ authority, id, kind: "approve", approval }),
    reject: (_signer, id, rejection) => write({ authority, id, kind: "reject", rejection }),
  };
  return { home, vaultUrl: "", mirrors: [carriedMirror(carried)], desk, now };
}

export interface Imported {
  readonly accepted: Accepted;
  readonly proposals: readonly {
    readonly detail: ProposalDetail;
    /** What was decided here before. */
    readonly mine: Decision["kind"] | undefined;
    readonly review: Review | CodedError;
  }[];
}

/** Accepts the published state that came along, and looks at every proposal. */
export async function importProposals(home: Home, carried: Carried, now: number): Promise<Imported> {
  const accepted = await acceptPublished(home, [carriedMirror(carried)], now);
  return withJournal(home, async ({ decisions }) => {
    const proposals: Imported["proposals"][number][] = [];
    for (const detail of carried.proposals) {
      const mine = decisions.find(({ id }) => equalBytes(id, detail.id))?.kind;
      proposals.push({ detail, mine, review: await reviewOr(detail, accepted, now) });
    }
    return { accepted, proposals };
  });
}

async function reviewOr(detail: ProposalDetail, accepted: Accepted, now: number): Promise<Review | CodedError> {
  try {
    return await reviewProposal(detail.id, detail, accepted, now);
  } catch (error) {
    if (error instanceof VerificationError || error instanceof FormatError) return error;
    throw error;
  }
}

/**
 * Brings another trustee's decision, or one's own, to the vault. The passphrase is the carrier's.
 * @throws FormatError ERR_CARRIED; VerificationError ERR_AUTHORITY; OperationError ERR_VAULT with the vault's reason
 */
export async function submit(session: Session, file: string, passphrase: Secret): Promise<CarriedDecision> {
  const decision = parseDecisionFile(await readFileBounded(file, DECISION_BYTES_MAX));
  const { authority } = await readFirstRoot(session.home);
  if (!equalBytes(decision.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", `${file} is of authority ${formatHex(decision.authority)}`);
  const vault = await openVault(session);
  const carrier = await openSigner(session.home, await passphrase());
  if (decision.kind === "approve") await vault.approve(carrier, decision.id, decision.approval);
  else await vault.reject(carrier, decision.id, decision.rejection);
  return decision;
}
