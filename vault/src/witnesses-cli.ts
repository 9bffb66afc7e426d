/** `via vault witnesses`: who must see the log, and asking the trustees for others. */
import path from "node:path";
import { type Command, type Output, outputOf, repeated } from "@viafabric/platform";
import { formatVerifierKey, OperationError, parseDecimal, utf8 } from "@viafabric/schemas";
import { type LogPolicy, parsePolicy, policyOfLog, witnessQuorumOf } from "@viafabric/transparency-log";
import { folderFetch, proveConsistency, readCheckpoint } from "@viafabric/transparency-log/client";
import { openWitness } from "@viafabric/transparency-log/witness";
import { homeAt } from "./home.ts";
import type { AskTools } from "./keys-cli.ts";
import { type ListedWitness, namedWitness, nextPolicy } from "./witness-change.ts";

interface WitnessFlags {
  readonly home: string;
  readonly witness?: readonly string[];
  readonly without?: readonly string[];
  readonly quorum?: string;
}

export function witnessCommands<Ask extends { readonly home: string }>(vault: Command, tools: AskTools<Ask>): void {
  tools
    .askOptions(vault.command("witnesses").description("Who must see the log; or ask the trustees for others."))
    .option("--witness <key+url>", "verifier key of one that joins, a plus sign, its address; once for each", repeated)
    .option("--without <name>", "one that goes, by its name in the policy, such as w1; once for each", repeated)
    .option("--quorum <n>", "how many must cosign; as now, or the smallest majority if that is more, when left out")
    .addHelpText(
      "after",
      `
The quorum never falls. Whoever runs a witness that joins adds the log to it first: its key is in public/log.vkey. It is
asked to cosign before anything is proposed.
Proofs that are public are made again once enough of the new witnesses have cosigned; nodes take them with their next
refresh.

Examples
  via vault witnesses                      who is listed
  via vault witnesses --without w2 --witness 'w.example/4+…+…+https://w4.example/'`,
    )
    .action(async (options: Ask & WitnessFlags, command: Command) => {
      const out = outputOf(command);
      const home = homeAt(options.home);
      const policy = parsePolicy(utf8((await tools.trusted(home)).policyText));
      const { witness = [], without = [], quorum } = options;
      if (witness.length === 0 && without.length === 0 && quorum === undefined) return showWitnesses(out, policy);
      const witnesses = {
        add: witness.map(listedWitness),
        remove: without,
        ...(quorum !== undefined && { quorum: whole(quorum) }),
      };
      // Refused here rather than by the vault: the same rules, before anything is sent.
      nextPolicy(witnesses, policy);
      for (const joining of witnesses.add) await assertCosigns(path.join(home.public, "log"), policy, joining);
      await tools.ask(out, home, options, "trust-requests", { add: [], remove: [], witnesses });
    });
}

/** A key line holds plus signs of its own, but no address. */
export function listedWitness(text: string): Required<ListedWitness> {
  const at = text.search(/\+https?:\/\//);
  if (at < 0) throw new OperationError("ERR_USAGE", "--witness takes a verifier key, a plus sign and an address");
  return { vkey: text.slice(0, at), url: text.slice(at + 1) };
}

/**
 * A witness that does not know the log would leave everybody waiting, and trustees take no proposal from a log without
 * its quorum: there would be no way back.
 */
async function assertCosigns(folder: string, { logs }: LogPolicy, joining: Required<ListedWitness>): Promise<void> {
  const log = folderFetch(folder);
  const { verifier } = logs[0]!;
  const { note, checkpoint } = await readCheckpoint(log, policyOfLog(verifier));
  const witness = openWitness(verifier, [namedWitness(joining.url, joining)]);
  try {
    await witness.cosign({ note, prove: (oldSize) => proveConsistency(log, oldSize, checkpoint) });
  } catch (cause) {
    if (!(cause instanceof OperationError)) throw cause;
    const advice = "give it the log's key, public/log.vkey, and let it answer before trustees list it";
    throw new OperationError("ERR_WITNESS", `${cause.message}: ${advice}`, { cause });
  }
}

function showWitnesses(out: Output, policy: LogPolicy): void {
  const { witnesses, quorum } = witnessQuorumOf(policy);
  const listed = witnesses.map(({ name, verifier, url = "" }) => ({ name, vkey: formatVerifierKey(verifier), url }));
  out.result({ quorum, witnesses: listed }, () => {
    out.table(
      ["name", "key", "address"],
      listed.map(({ name, vkey, url }) => [name, vkey, url]),
    );
    out.line(`\n${quorum} of ${listed.length} must have seen the log.`);
  });
}

function whole(text: string): number {
  try {
    return parseDecimal(text);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", "--quorum takes a whole number", { cause });
  }
}
