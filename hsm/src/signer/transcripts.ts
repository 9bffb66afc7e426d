/**
 * Transcripts of key ceremonies on their way into the log: the next by number, signed by every key that it names.
 *
 * They decide nothing here. That this signer checks them keeps its log from holding hashes of just anything.
 */
import { equalBytes, sha256, VerificationError, verifyTranscript } from "@viafabric/schemas";
import type { SignerState } from "./state.ts";
import { UNLOGGED_MAX } from "./trust.ts";

/** @throws FormatError ERR_TRANSCRIPT; VerificationError ERR_TRANSCRIPT_REFUSED, ERR_AUTHORITY, ERR_SIGNER_ORDER */
export function acceptTranscript(state: SignerState, bytes: Uint8Array): SignerState {
  const { number } = verifyTranscript(bytes, state.authority);
  const fileHash = sha256(bytes);
  const waiting = state.unlogged.filter(({ kind }) => kind === "transcript");
  const same = waiting.find((file) => file.number === number);
  // Asked again, nothing changes.
  if (same && equalBytes(same.fileHash, fileHash)) return state;
  const next = (waiting.at(-1)?.number ?? state.logged.transcript) + 1;
  if (number !== next) throw new VerificationError("ERR_SIGNER_ORDER", `transcript ${number}, where ${next} must come`);
  if (state.unlogged.length >= UNLOGGED_MAX)
    throw new VerificationError("ERR_SIGNER_ORDER", `${state.unlogged.length} accepted files wait for their log leaf`);
  const file = { kind: "transcript", number, fileHash, content: new Uint8Array(0) } as const;
  return { ...state, unlogged: [...state.unlogged, file] };
}
