/**
 * `verify`: full offline verdicts against the bare signature checks they contain, alternating in one run.
 *
 * Every token is another one, and nothing is remembered from one to the next: the ratio is what the verdict costs
 * beyond the one Ed25519 verification that no verifier can avoid.
 */
import { decodeCompact, expandCompact, isValidSignature, signatureInput } from "@viafabric/schemas";
import { AUTHORITY, ISSUER, makeBatch, NOW, settledStatus } from "@viafabric/test/authority";
import { checkToken, type NodeState, verifyBundle } from "@viafabric/verifier";
import { type Figure, figureOf, median, ROUNDS, secondsOnce } from "./figure.ts";

const TOKENS = 10_000;

export async function* verify(): AsyncGenerator<Figure> {
  const batch = await makeBatch({ count: TOKENS });
  const held = verifyBundle(batch.trust, batch.files, batch.manifestProof);
  const status = await settledStatus(batch.trust, TOKENS);
  const state: NodeState = { authority: AUTHORITY, trust: batch.trust, batches: [held], status, clockFloor: 0 };
  const bare = batch.compact.map((bytes) => {
    const compact = decodeCompact(bytes);
    const { payload } = expandCompact(compact, batch.manifest);
    return { input: signatureInput("ed25519", payload), signature: compact.signature };
  });
  const verdicts = () => {
    for (const token of batch.compact) if (checkToken(token, state, NOW).code !== "accept") throw new Error("refused");
  };
  const signatures = () => {
    for (const { input, signature } of bare)
      if (!isValidSignature(ISSUER.publicKey, input, signature)) throw new Error("refused");
  };
  verdicts();
  signatures();
  const rounds = Array.from({ length: ROUNDS }, () => ({ bare: secondsOnce(signatures), full: secondsOnce(verdicts) }));
  yield figureOf({
    bench: "verify",
    figure: "verdicts-per-second",
    value: TOKENS / median(rounds.map((round) => round.full)),
    floor: TOKENS / median(rounds.map((round) => round.bare)),
    atLeast: 0.6,
    n: TOKENS,
    note: "floor: bare signature checks a second",
  });
}
