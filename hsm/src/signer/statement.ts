/**
 * The next status statement, computed from the signer's own ledger: nobody hands it a set, a count or a root.
 *
 * Each statement is chained to the one before, and only made once that one is in the log, so that a thief of the
 * status key's signer cannot make a chain that the log does not show.
 */
import { formatStatement, nextStatement, PLANES, type Plane, type Statement, setRoot } from "@viafabric/revocation";
import { type Ages, type PublicKey, parseNote, type Rules, sha256, utf8, VerificationError } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { listedKey } from "./key-ring.ts";
import { frontierOf, type SignerState } from "./state.ts";
import { lastStatement } from "./trust.ts";

/** Statements are hourly. */
export const STATEMENT_INTERVAL_SECONDS = 3600;
/** Where no profile says anything: a day and a week. */
const DEFAULT_AGES: Ages = { soft: 86_400, hard: 604_800 };

export interface StatementPlan {
  /** To be signed as `<authority hex>/status`. */
  readonly text: string;
  readonly key: PublicKey;
}

/** @param held the status keys of this signer */
export function planStatement(
  state: SignerState,
  trusted: TrustedState,
  held: readonly PublicKey[],
  now: number,
): StatementPlan {
  const previous = lastStatement(state);
  if (state.logged.batches === 0 || state.logged.statement < (previous?.epoch ?? 0))
    throw new VerificationError(
      "ERR_SIGNER_ORDER",
      "the last statement, or the first head, has no leaf in the log yet",
    );
  // A clock that was set back must not make the new statement look older than the one it replaces.
  const issued = Math.max(now, previous?.issued ?? 0);
  const key = listedKey(held, trusted.keys, "status", issued);
  const { ledger } = state;
  const planes = ledger.planes();
  const plane = (of: Plane) => ({ count: planes[of].count, root: setRoot(planes[of], ledger.n) });
  const chained = previous && { statement: previous, hash: sha256(utf8(parseNote(state.statement).text)) };
  const text = formatStatement(
    nextStatement(chained, {
      authority: state.authority,
      n: ledger.n,
      log: { size: state.log.size, root: frontierOf(state).root() },
      batches: state.logged.batches,
      issued,
      next: issued + STATEMENT_INTERVAL_SECONDS,
      ages: agesOf(trusted.rules),
      planes: PLANES.map(plane) as unknown as Statement["planes"],
    }),
  );
  return { text, key };
}

/** The most that any profile allows: the profile's own, smaller ages count where a token is judged. */
export function agesOf(rules: Rules): Ages {
  const all = [...rules.ages.values()];
  if (all.length === 0) return DEFAULT_AGES;
  return { soft: Math.max(...all.map(({ soft }) => soft)), hard: Math.max(...all.map(({ hard }) => hard)) };
}

/** With the signed note as the last statement, which now waits for its leaf. */
export function withStatement(state: SignerState, epoch: number, note: Uint8Array): SignerState {
  const waiting = { kind: "statement", number: epoch, fileHash: sha256(note), content: new Uint8Array(0) } as const;
  return { ...state, statement: note, unlogged: [...state.unlogged, waiting] };
}
