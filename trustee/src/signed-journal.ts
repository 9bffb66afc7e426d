/**
 * What this trustee has signed and rejected, for ever: the memory that no server can argue with.
 *
 * At most one proposal is signed for each (role, version), and none that was rejected. An intention is durable before
 * the signature exists, so a crash in between can only make the tool sign the same bytes again, never other ones.
 */
import { type Journal, openJournal } from "@viafabric/platform";
import {
  decodeCbor,
  encodeCbor,
  equalBytes,
  Fields,
  FormatError,
  formatHex,
  OperationError,
  VerificationError,
} from "@viafabric/schemas";
import type { ProposalRole } from "@viafabric/tuf";

export const DECISIONS = ["sign", "reject", "event"] as const;

export interface Decision {
  /** `event`: a status event, which has no version. */
  readonly kind: (typeof DECISIONS)[number];
  /** Empty for a status event, and for a rotation as a whole. */
  readonly role: ProposalRole | "";
  readonly version: number;
  readonly id: Uint8Array;
  /** Unix seconds. */
  readonly time: number;
}

export interface SignedJournal {
  readonly decisions: readonly Decision[];
  /** @throws VerificationError ERR_PROPOSAL_TWICE; then nothing was written */
  record(decision: Decision, dead?: ReadonlySet<string>): Promise<void>;
  close(): Promise<void>;
}

const NONE_DEAD: ReadonlySet<string> = new Set();

export async function openSignedJournal(file: string): Promise<SignedJournal> {
  const journal: Journal = await openJournal(file);
  const decisions = journal.records.map((record) => decodeDecision(file, record));
  return {
    decisions,
    async record(decision, dead) {
      verifyDecision(decisions, decision, dead);
      // The same decision again changes nothing, so that an interrupted command may be repeated.
      if (decisions.some((known) => known.kind === decision.kind && equalBytes(known.id, decision.id))) return;
      await journal.append(encodeDecision(decision));
      decisions.push(decision);
    },
    close: () => journal.close(),
  };
}

/**
 * @param dead roots that can never be published, by SHA-256 of their signed part in hex: another one of their version
 * may be signed. @throws VerificationError ERR_PROPOSAL_TWICE
 */
export function verifyDecision(
  decisions: readonly Decision[],
  { kind, role, version, id }: Decision,
  dead: ReadonlySet<string> = NONE_DEAD,
): void {
  if (kind === "event") return;
  const name = role === "" ? "a rotation" : `${role} ${version}`;
  for (const known of decisions) {
    const same = equalBytes(known.id, id);
    if (same && known.kind !== kind)
      throw new VerificationError(
        "ERR_PROPOSAL_TWICE",
        known.kind === "sign"
          ? `this proposal for ${name} was already signed here`
          : `this proposal for ${name} was rejected here`,
      );
    if (role === "" || (role === "root" && !same && dead.has(formatHex(known.id)))) continue;
    if (kind === "sign" && known.kind === "sign" && !same && known.role === role && known.version === version)
      throw new VerificationError(
        "ERR_PROPOSAL_TWICE",
        `another proposal for ${name} was signed here: ${formatHex(known.id)}`,
      );
  }
}

function encodeDecision(decision: Decision): Uint8Array {
  const { kind, role, version, id, time } = decision;
  return encodeCbor(new Map(Object.entries({ kind, role, version, id, time })));
}

function decodeDecision(file: string, record: Uint8Array): Decision {
  try {
    const fields = new Fields(decodeCbor(record), ["kind", "role", "version", "id", "time"], "ERR_CBOR");
    const kind = DECISIONS.find((known) => known === fields.text("kind"));
    const role = (["", "root", "targets", "batches"] as const).find((known) => known === fields.text("role"));
    if (kind === undefined || role === undefined) throw new FormatError("ERR_CBOR", "an unknown decision");
    return { kind, role, version: fields.integer("version"), id: fields.bytes("id", 32), time: fields.integer("time") };
  } catch (cause) {
    // Forgetting a signature could mean a second one, so a record that cannot be read stops the tool.
    throw new OperationError("ERR_JOURNAL", `${file} holds a record that cannot be read`, { cause });
  }
}
