import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, parseUtf8, sha256, utf8 } from "@viafabric/schemas";
import { DAY, ed25519Signer, NOW, p256Signer } from "./fixtures.test.ts";
import {
  type AuthorityCard,
  authorityOf,
  createEnrolmentCard,
  encodeAuthorityCard,
  keyId,
  parseAuthorityCard,
  parseSigned,
  rootFromCards,
  verifyEnrolmentCard,
} from "./index.ts";

const refusedWith = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;

const authorityCard: AuthorityCard = {
  threshold: 2,
  expires: NOW + 730 * DAY,
  snapshot: ed25519Signer("snapshot").publicKey,
  timestamp: ed25519Signer("timestamp").publicKey,
};

function trusteeCards(count = 3) {
  return Promise.all(
    Array.from({ length: count }, (_, i) =>
      createEnrolmentCard(ed25519Signer(`t${i}`), { name: `Trustee ${i}`, role: "trustee" }),
    ),
  );
}

test("a card proves possession of its key, and nothing on it can be changed", async () => {
  for (const signer of [ed25519Signer("amina"), p256Signer()]) {
    const card = await createEnrolmentCard(signer, { name: "Amina N\u2019Diaye", role: "trustee" });
    assert.deepEqual(verifyEnrolmentCard(card.bytes).key.spki, signer.publicKey.spki);
    const text = parseUtf8(card.bytes);
    const other = await createEnrolmentCard(ed25519Signer("other"), { name: "Other", role: "trustee" });
    const otherKey = /"key":"([^"]*)"/.exec(parseUtf8(other.bytes))![1]!;
    for (const changed of [
      text.replace("Amina", "Amine"),
      text.replace("trustee", "station"),
      text.replace(/("key":")[^"]*/, `$1${otherKey}`),
    ])
      assert.throws(() => verifyEnrolmentCard(utf8(changed)), refusedWith("ERR_SIGNATURE"));
    for (const malformed of [
      text.trim(),
      ` ${text}`,
      text.replace('"card":1', '"card":2'),
      text.replace("trustee", "boss"),
      text.replace("{", '{"a":1,'),
      "{}",
      "",
    ])
      assert.throws(() => verifyEnrolmentCard(utf8(malformed)), CodedError, malformed);
  }
});

test("names that a terminal would obey or that hide are refused", async () => {
  for (const name of ["", " a", "a ", "a  b", "a\nb", "\u001b[31m", "\u202eevil", "a\u200b", "x".repeat(65)])
    await assert.rejects(
      createEnrolmentCard(ed25519Signer("x"), { name, role: "trustee" }),
      refusedWith("ERR_CARD"),
      name,
    );
});

test("every trustee builds the same root v1, whatever the order of the cards", async () => {
  const cards = await trusteeCards(5);
  const card = { ...authorityCard, threshold: 3 };
  const root = rootFromCards(cards, card);
  assert.deepEqual(rootFromCards([...cards].reverse(), parseAuthorityCard(encodeAuthorityCard(card))), root);
  assert.deepEqual(authorityOf(root), sha256(root));
  const { roles, version, expires } = parseSigned("root", root);
  assert.deepEqual([version, expires, roles.root.threshold, roles.targets.keys.length], [1, card.expires, 3, 5]);
  const ids = roles.root.keys.map(keyId);
  assert.deepEqual(ids, [...ids].sort());
});

test("cards that make no authority are refused", async () => {
  const cards = await trusteeCards(4);
  const station = await createEnrolmentCard(ed25519Signer("s"), { name: "Station", role: "station" });
  const online = await createEnrolmentCard(ed25519Signer("snapshot"), { name: "Twice", role: "trustee" });
  const attempts = {
    "two people": () => rootFromCards(cards.slice(0, 2), authorityCard),
    "half of four is no majority": () => rootFromCards(cards, authorityCard),
    "one decides": () => rootFromCards(cards.slice(0, 3), { ...authorityCard, threshold: 1 }),
    "more than there are": () => rootFromCards(cards, { ...authorityCard, threshold: 5 }),
    "a fraction": () => rootFromCards(cards, { ...authorityCard, threshold: 2.5 }),
    "one person twice": () => rootFromCards([cards[0]!, cards[0]!, cards[1]!], authorityCard),
    "a station among trustees": () => rootFromCards([...cards.slice(0, 2), station], authorityCard),
    "a trustee with the snapshot key": () => rootFromCards([...cards.slice(0, 2), online], authorityCard),
    "one key for snapshot and timestamp": () =>
      rootFromCards(cards.slice(0, 3), { ...authorityCard, timestamp: authorityCard.snapshot }),
  };
  for (const [what, attempt] of Object.entries(attempts)) assert.throws(attempt, refusedWith("ERR_CARD"), what);
});
