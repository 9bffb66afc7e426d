import assert from "node:assert/strict";
import { createPrivateKey, sign } from "node:crypto";
import { test } from "node:test";
import {
  CodedError,
  concat,
  ed25519PublicKey,
  formatHex,
  formatNote,
  type KeyEntry,
  parseHex,
  parseUtf8,
  type Signer,
  sha256,
  signNote,
  utf8,
} from "@viafabric/schemas";
import {
  formatStatement,
  freshnessOf,
  nextStatement,
  parseStatement,
  type Statement,
  signedSet,
  statementHash,
  statementName,
  type VerifiedStatement,
  verifyStatement,
  verifySuccessor,
} from "./statement.ts";
import { readVector, vectors } from "./testing.test.ts";

/** RFC 8032 section 7.1, test 1: a key that is anything but secret. */
const SEED = parseHex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
const PKCS8_ED25519 = parseHex("302e020100300506032b657004220420");
const handle = createPrivateKey({ key: Buffer.from(concat(PKCS8_ED25519, SEED)), format: "der", type: "pkcs8" });
const publicKey = ed25519PublicKey(parseHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
const signer: Signer = { publicKey, sign: async (message) => new Uint8Array(sign(null, message, handle)) };

const authority = parseHex("11".repeat(32));
const hash = (byte: number) => new Uint8Array(32).fill(byte);
const entry: KeyEntry = { key: publicKey, purpose: "status", class: "hardware", from: 0, until: 2 ** 40 };
const trusted = { authority, keys: [entry] };

const statement: Statement = {
  authority,
  epoch: 9,
  n: 310_000,
  previous: hash(0x33),
  log: { size: 310_016, root: hash(0x22) },
  batches: 12,
  issued: 1_767_225_600,
  next: 1_767_229_200,
  ages: { soft: 86_400, hard: 604_800 },
  planes: [
    { count: 327, root: parseHex(vectors.container.after.root) },
    { count: 0, root: hash(0x44) },
    { count: 1000, root: hash(0x55) },
  ],
};

async function noteOf(s: Statement): Promise<Uint8Array> {
  const text = formatStatement(s);
  return formatNote({ text, signatures: [await signNote(text, statementName(authority), signer)] });
}

const verifiedOf = async (s: Statement) => verifyStatement(await noteOf(s), trusted);

test("the statement vector", async () => {
  const vector = readVector("statement.txt");
  assert.equal(parseUtf8(await noteOf(statement)), vector.toString());
  const verified = verifyStatement(vector, trusted);
  assert.deepEqual(verified.statement, statement);
  assert.equal(formatHex(verified.hash), formatHex(sha256(utf8(formatStatement(statement)))));
  assert.deepEqual(signedSet(verified.statement, 2), { plane: 2, epoch: 9, n: 310_000, count: 1000, root: hash(0x55) });
});

test("every single-byte change of the note is refused", async () => {
  const note = await noteOf(statement);
  for (let at = 0; at < note.length; at++) {
    for (const change of [1, 0x20, 0x80]) {
      const corrupt = note.slice();
      corrupt[at]! ^= change;
      assert.throws(() => verifyStatement(corrupt, trusted), CodedError, `byte ${at}`);
    }
  }
});

const text = formatStatement(statement);
const malformed: readonly [string, string][] = [
  ["a missing line", text.replace(/\n0 327 .*\n/, "\n")],
  ["a line too many", `${text}3 0 ${"A".repeat(43)}=\n`],
  ["no last line feed", text.slice(0, -1)],
  ["carriage returns", text.replaceAll("\n", "\r\n")],
  ["a leading zero", text.replace("\n310000\n", "\n0310000\n")],
  ["planes in another order", text.replace("\n0 327", "\n1 327")],
  ["more members than indices", text.replace("\n0 327", "\n0 310001")],
  ["a double space", text.replace("\n0 327 ", "\n0  327 ")],
  ["three ages", text.replace("86400 604800", "86400 604800 1")],
  ["a hard age below the soft one", text.replace("86400 604800", "86400 86399")],
  ["a next that is not later", text.replace("1767229200", "1767225600")],
  ["epoch 0", text.replace("\n9\n", "\n0\n")],
  ["epoch 1 with a past", text.replace("\n9\n", "\n1\n")],
  ["another name", text.replace("/status", "/states")],
  ["upper-case hex", text.replace("1111", "111A")],
];

for (const [what, wrong] of malformed) {
  test(`${what} is not a statement`, () => {
    assert.notEqual(wrong, text);
    assert.throws(() => parseStatement(wrong), CodedError);
  });
}

test("only a listed status key counts, and only in its time", async () => {
  const note = await noteOf(statement);
  const refused = (keys: readonly KeyEntry[]) =>
    assert.throws(() => verifyStatement(note, { authority, keys }), { code: "ERR_NOTE_UNSIGNED" });
  refused([]);
  refused([{ ...entry, purpose: "operator" }]);
  refused([{ ...entry, from: statement.issued + 1 }]);
  refused([{ ...entry, until: statement.issued }]);
  assert.throws(() => verifyStatement(note, { authority: hash(9), keys: [entry] }), { code: "ERR_AUTHORITY" });
  const later = { ...entry, from: statement.issued, until: statement.issued + 1 };
  assert.equal(verifyStatement(note, { authority, keys: [later] }).signer, later);
});

test("a chain of statements verifies link by link", async () => {
  const { epoch, previous, ...now } = statement;
  let held: VerifiedStatement | undefined;
  for (let i = 1; i <= 4; i++) {
    const next = nextStatement(held, { ...now, issued: now.issued + i, log: { size: 310_016 + i, root: hash(i) } });
    assert.equal(next.epoch, i);
    const verified = await verifiedOf(next);
    if (held) verifySuccessor(held, verified);
    verifySuccessor(verified, verified);
    assert.deepEqual(statementHash(verified.text), verified.hash);
    held = verified;
  }
});

test("rollbacks, forks and broken chains have their own codes", async () => {
  const held = await verifiedOf(statement);
  const { epoch, previous, ...now } = statement;
  const next = nextStatement(held, { ...now, log: { size: 310_020, root: hash(0x77) } });
  const refused = async (change: Partial<Statement>, code: string) => {
    const verified = await verifiedOf({ ...next, ...change });
    assert.throws(() => verifySuccessor(held, verified), { code });
  };
  verifySuccessor(held, await verifiedOf(next));
  verifySuccessor(held, await verifiedOf({ ...next, epoch: 12, previous: hash(0x78) }));
  await refused({ epoch: 8 }, "ERR_STATUS_ROLLBACK");
  await refused({ n: 309_999 }, "ERR_STATUS_ROLLBACK");
  await refused({ batches: 11 }, "ERR_STATUS_ROLLBACK");
  await refused({ issued: now.issued - 1 }, "ERR_STATUS_ROLLBACK");
  await refused({ log: { size: 310_015, root: hash(0x77) } }, "ERR_STATUS_ROLLBACK");
  await refused({ log: { size: 310_016, root: hash(0x77) } }, "ERR_STATUS_FORK");
  await refused({ epoch: 9 }, "ERR_STATUS_FORK");
  await refused({ previous: hash(0x78) }, "ERR_STATUS_CHAIN");
});

test("freshness takes the smaller of the statement's and the profile's ages", () => {
  const at = (age: number, soft?: number, hard?: number) =>
    freshnessOf(statement, soft === undefined ? undefined : { soft, hard: hard! }, statement.issued + age);
  assert.equal(at(0), "fresh");
  assert.equal(at(86_400), "fresh");
  assert.equal(at(86_401), "aging");
  assert.equal(at(604_801), "stale");
  assert.equal(at(101, 100, 200), "aging");
  assert.equal(at(201, 100, 200), "stale");
  assert.equal(at(86_401, 10 ** 9, 10 ** 9), "aging");
  assert.equal(at(604_801, 10 ** 9, 10 ** 9), "stale");
  assert.equal(at(-24 * 3600), "fresh");
  assert.equal(at(-24 * 3600 - 1), "ahead");
});
