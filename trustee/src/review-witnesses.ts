/**
 * A proposed log policy, held against the accepted one: which witnesses join and leave, and how many must have seen the
 * log. Pure.
 *
 * The log is the authority's for ever. The quorum does not fall, and where it was a majority it stays one: two quorums
 * without a common witness could each be shown a log of their own.
 */
import { equalBytes, formatVerifierKey, quote, utf8 } from "@viafabric/schemas";
import { type LogPolicy, type PolicyWitness, parsePolicy, witnessQuorumOf } from "@viafabric/transparency-log";
import { broken } from "./policy.ts";

/** @throws VerificationError ERR_PROPOSAL_POLICY; FormatError ERR_LOG_POLICY */
export function witnessChanges(oldText: string, nextText: string): readonly string[] {
  const next = parsePolicy(utf8(nextText));
  if (oldText === nextText) return [];
  const old = parsePolicy(utf8(oldText));
  if (logsOf(old) !== logsOf(next)) throw broken("the log policy would name another log; a log keeps its key for ever");
  const [before, after] = [witnessQuorumOf(old), witnessQuorumOf(next)];
  const size = after.witnesses.length;
  if (after.quorum < before.quorum)
    throw broken(`${after.quorum} witnesses would have to see the log, no longer ${before.quorum}`);
  if (2 * before.quorum > before.witnesses.length && 2 * after.quorum <= size)
    throw broken(`${after.quorum} of ${size} witnesses would be no majority any more`);
  const known = (witness: PolicyWitness, among: readonly PolicyWitness[]) =>
    among.find(({ verifier }) => equalBytes(verifier.key.raw, witness.verifier.key.raw));
  const joining = after.witnesses.filter((witness) => !known(witness, before.witnesses));
  const leaving = before.witnesses.filter((witness) => !known(witness, after.witnesses));
  const quorum = `witnesses: ${before.quorum} of ${before.witnesses.length} had to see the log, and ${after.quorum} of ${size} would have to`;
  return [
    ...joining.map((witness) => `witness ${nameOf(witness)} joins, asked at ${addressOf(witness)}`),
    ...leaving.map((witness) => `witness ${nameOf(witness)} goes`),
    ...after.witnesses.flatMap((witness) => changesOf(known(witness, before.witnesses), witness)),
    quorum,
  ];
}

function changesOf(old: PolicyWitness | undefined, next: PolicyWitness): readonly string[] {
  if (!old) return [];
  return [
    ...(nameOf(old) === nameOf(next) ? [] : [`witness ${nameOf(old)} would be called ${nameOf(next)}`]),
    ...(old.url === next.url ? [] : [`witness ${nameOf(next)} moves from ${addressOf(old)} to ${addressOf(next)}`]),
  ];
}

/** Quoted: a policy must not move the cursor of the trustee who reads it. */
function nameOf({ name, verifier }: PolicyWitness): string {
  return `${quote(name)}, key ${quote(formatVerifierKey(verifier))}`;
}

function addressOf({ url }: PolicyWitness): string {
  return url === undefined ? "no address" : quote(url);
}

function logsOf({ logs }: LogPolicy): string {
  return logs.map(({ verifier, url = "" }) => `${formatVerifierKey(verifier)} ${url}`).join("\n");
}
