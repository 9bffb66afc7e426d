/**
 * Who must see the log, the pure part: the tlog-policy that trustees sign next.
 *
 * The log stays: its key and its name are the authority's for ever. The quorum never falls, and where it was a majority
 * it stays one, since two quorums without a common witness could each see a log of their own.
 */
import { FormatError, parseVerifierKey, quote, URI_LENGTH_MAX, utf8, VerificationError } from "@viafabric/schemas";
import {
  formatPolicy,
  type LogPolicy,
  type PolicyWitness,
  witnessPolicy,
  witnessQuorumOf,
} from "@viafabric/transparency-log";

export interface ListedWitness {
  readonly vkey: string;
  /** Where it is asked; without one its cosignatures count, and nobody can fetch them. */
  readonly url?: string;
}

export interface WitnessChange {
  readonly add: readonly ListedWitness[];
  /** Names in the policy, such as `w1`. */
  readonly remove: readonly string[];
  /** As it was, or the smallest majority if that is more, when left out. */
  readonly quorum?: number;
}

/** As many as every reader of the format takes. */
export const WITNESSES_MAX = 32;

/** @param value {add: [{vkey, url}], remove: [name], quorum}, where the last may be left out. @throws FormatError */
export function parseWitnessChange(value: unknown): WitnessChange {
  const fields = new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
  const [add, remove, quorum] = ["add", "remove", "quorum"].map((name): unknown => fields.get(name));
  const isList = (list: unknown): list is readonly unknown[] => Array.isArray(list) && list.length <= WITNESSES_MAX;
  if (!isList(add) || !isList(remove) || fields.size !== (quorum === undefined ? 2 : 3))
    throw wrong("it is {add, remove, quorum}");
  if (quorum !== undefined && (typeof quorum !== "number" || !Number.isSafeInteger(quorum)))
    throw wrong("quorum is a whole number");
  const names = remove.map((name) => {
    if (typeof name !== "string") throw wrong("a name is text");
    return name;
  });
  const listed = add.map((item): ListedWitness => {
    const { vkey, url } = Object(item) as { readonly vkey?: unknown; readonly url?: unknown };
    if (typeof vkey !== "string" || typeof url !== "string") throw wrong("an entry of add is {vkey, url}");
    return { vkey, url };
  });
  if (listed.length === 0 && names.length === 0 && quorum === undefined) throw wrong("nothing would change");
  return { add: listed, remove: names, ...(quorum !== undefined && { quorum }) };
}

/**
 * The next tlog-policy.
 * @throws VerificationError ERR_TRUST_CHANGE for a weaker one; FormatError ERR_LOG_POLICY, ERR_VKEY, ERR_TRUST_REQUEST
 */
export function nextPolicy({ add, remove, quorum: asked }: WitnessChange, policy: LogPolicy): Uint8Array {
  const { witnesses, quorum } = witnessQuorumOf(policy);
  for (const name of remove)
    if (!witnesses.some((witness) => witness.name === name))
      throw refused(`no witness is called ${quote(name)}; there are ${witnesses.map((w) => w.name).join(", ")}`);
  const staying = witnesses.filter(({ name }) => !remove.includes(name));
  const last = Math.max(0, ...witnesses.map(({ name }) => Number(/^w([0-9]{1,6})$/.exec(name)?.[1] ?? 0)));
  const next = [...staying, ...add.map((witness, i) => namedWitness(`w${last + i + 1}`, witness))];
  if (next.length > WITNESSES_MAX) throw refused(`${next.length} witnesses; at most ${WITNESSES_MAX} are listed`);
  const majority = Math.floor(next.length / 2) + 1;
  const wanted = asked ?? Math.max(quorum, majority);
  if (wanted < quorum) throw refused(`the witness quorum would fall from ${quorum} to ${wanted}`);
  if (wanted > next.length)
    throw refused(`a quorum of ${wanted} needs more than ${next.length} witnesses: name others with those that go`);
  if (2 * quorum > witnesses.length && wanted < majority)
    throw refused(`${wanted} of ${next.length} witnesses would be no majority any more; it takes ${majority}`);
  return utf8(formatPolicy(witnessPolicy(policy.logs[0]!, { witnesses: next, quorum: wanted })));
}

export function namedWitness(name: string, { vkey, url }: ListedWitness): PolicyWitness {
  return { name, verifier: parseVerifierKey(vkey), ...(url !== undefined && { url: checkedUrl(url) }) };
}

/** Into a line of the policy, between spaces. */
function checkedUrl(url: string): string {
  const { protocol } = URL.canParse(url) ? new URL(url) : { protocol: "" };
  if (!["http:", "https:"].includes(protocol) || !/^[\x21-\x7e]+$/.test(url) || url.length > URI_LENGTH_MAX)
    throw new FormatError("ERR_LOG_POLICY", `not an http or https address of a witness: ${quote(url)}`);
  return url;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TRUST_REQUEST", `not a change of the witnesses: ${reason}`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_CHANGE", reason);
}
