import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CodedError,
  decodeTrustKeys,
  formatBase64,
  formatHex,
  type KeyEntry,
  kidText,
  type PublicKey,
  type Rules,
} from "@viafabric/schemas";
import { KEYS_PATH, parseSigned, type TrustedState } from "@viafabric/tuf";
import { DAY, genesisWorld, KEYS, NOW, namedSigner, signedBy } from "./fixtures.test.ts";
import { assembleGenesis } from "./genesis-folder.ts";
import { PROPOSAL_SECONDS } from "./proposals.ts";
import { nextKeys, parseTrustChange, proposeTargets } from "./trust-change.ts";

const LATER = NOW + DAY;

async function trustedState(): Promise<TrustedState> {
  const { genesis, trustees } = await genesisWorld();
  return assembleGenesis(genesis, await signedBy(genesis, trustees.slice(0, 3)), NOW).trusted;
}

const rotation = (purpose: string, key: PublicKey, keyClass = "software") => {
  return parseTrustChange({
    add: [],
    remove: [],
    rotate: [{ purpose, spki: formatBase64(key.spki), class: keyClass }],
  });
};

const refused = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

const entryOf = (keys: readonly KeyEntry[], key: PublicKey) =>
  keys.find((entry) => kidText(entry.key) === kidText(key));

test("a key of the HSM is followed by a new one, and stays listed until trustees must have signed", async () => {
  const trusted = await trustedState();
  const next = namedSigner("next issuer").publicKey;
  const { proposal, attachments } = proposeTargets(rotation("issuer", next), trusted, 1, LATER);
  const keys = decodeTrustKeys(attachments.find(({ name }) => name.endsWith(KEYS_PATH))!.bytes);
  const [old, now] = [entryOf(keys, KEYS.issuer.publicKey), entryOf(keys, next)];
  assert.deepEqual([old?.from, old?.until], [NOW, LATER + PROPOSAL_SECONDS]);
  assert.deepEqual([now?.purpose, now?.class, now?.from], ["issuer", "software", LATER]);
  assert.equal(keys.length, trusted.keys.length + 1);
  const { delegations } = parseSigned("targets", proposal.signed);
  assert.deepEqual(delegations, trusted.targets.delegations);
  // Its end does not move further away when a second successor comes.
  const again = nextKeys(rotation("issuer", namedSigner("third").publicKey), { ...trusted, keys }, LATER + DAY);
  assert.equal(entryOf(again, KEYS.issuer.publicKey)?.until, LATER + PROPOSAL_SECONDS);
});

test("the key of the daily statement for TUF clients is followed in its delegation", async () => {
  const trusted = await trustedState();
  const next = namedSigner("next revocations").publicKey;
  const { proposal } = proposeTargets(rotation("revocations", next), trusted, 1, LATER);
  const { delegations } = parseSigned("targets", proposal.signed);
  const of = (name: string) => delegations.find((delegation) => delegation.name === name)!.role;
  assert.deepEqual(of("revocations").keys.map(kidText), [kidText(next)]);
  assert.deepEqual(of("batches"), trusted.approvers);
});

test("a successor must be a key without another purpose, of the kind and class that the role takes", async () => {
  const trusted = await trustedState();
  const { root, targets } = trusted;
  const statements = targets.delegations.find(({ name }) => name === "revocations")!.role.keys[0]!;
  const taken = [
    KEYS.issuer.publicKey,
    trusted.keys.find(({ purpose }) => purpose === "station")!.key,
    root.roles.snapshot.keys[0]!,
    trusted.trustees.keys[0]!,
    statements,
  ];
  for (const key of taken)
    for (const purpose of ["issuer", "status", "revocations"])
      assert.throws(() => nextKeys(rotation(purpose, key), trusted, LATER), refused("ERR_TRUST_CHANGE"), kidText(key));
  const fresh = namedSigner("fresh").publicKey;
  const rules: Rules = { ...trusted.rules, classes: new Map([["issuer", "hardware"]]) };
  assert.throws(() => nextKeys(rotation("issuer", fresh), { ...trusted, rules }, LATER), refused("ERR_TRUST_CHANGE"));
  assert.ok(nextKeys(rotation("issuer", fresh, "hardware"), { ...trusted, rules }, LATER));
  // A point on the curve, of a key nobody holds: https://www.secg.org/sec2-v2.pdf, the generator.
  const generator =
    "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296" +
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
  const p256 = formatBase64(Uint8Array.from(Buffer.from(generator, "hex")));
  const status = parseTrustChange({
    add: [],
    remove: [],
    rotate: [{ purpose: "status", spki: p256, class: "software" }],
  });
  assert.throws(() => nextKeys(status, trusted, LATER), refused("ERR_TRUST_CHANGE"));
});

test("a change that is no change, or not of its shape, is a coded refusal", () => {
  const spki = formatBase64(namedSigner("any").publicKey.spki);
  const key = { purpose: "issuer", spki, class: "software" };
  for (const body of [
    null,
    [],
    {},
    { add: [], remove: [] },
    { add: [], remove: [], rotate: [] },
    { add: [], remove: [], rotate: {} },
    { add: [], remove: [], rotate: [{ ...key, purpose: "log" }] },
    { add: [], remove: [], rotate: [{ ...key, class: "wood" }] },
    { add: [], remove: [], rotate: [{ ...key, extra: 1 }] },
    { add: [], remove: [], rotate: [key, { ...key, spki: formatBase64(namedSigner("b").publicKey.spki) }] },
    { add: [], remove: [], rotate: [key], surprise: 1 },
    { add: [], rotate: [key] },
  ])
    assert.throws(() => parseTrustChange(body), refused("ERR_TRUST_REQUEST"), JSON.stringify(body));
  for (const wrong of ["", "AAAA", formatHex(new Uint8Array(4))])
    assert.throws(() => parseTrustChange({ add: [], remove: [], rotate: [{ ...key, spki: wrong }] }), CodedError);
});
