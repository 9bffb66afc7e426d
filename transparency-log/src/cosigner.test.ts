import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import {
  buildConsistencyProof,
  formatSignatureLine,
  formatVerifierKey,
  type Hash,
  hashLeaf,
  noteVerifier,
  OperationError,
  openNote,
  parseNote,
  rootOf,
  type Signer,
  signNote,
  subtreeOf,
  utf8,
} from "@viafabric/schemas";
import { Cosigner, type KnownLog, type WitnessAnswer, type WitnessStore } from "./cosigner.ts";
import {
  decimals,
  freshSeed,
  logSigner,
  logVerifier,
  ORIGIN,
  randomFrom,
  signedCheckpoint,
  signerOf,
  WITNESS,
  WITNESS_TIME,
  witnessSigner,
  witnessVerifier,
} from "./fixtures.test.ts";
import { parseKnownLogs } from "./known-logs.ts";
import { type FolderWitnessStore, openWitnessFolder } from "./witness-folder.ts";
import { formatAddCheckpoint, monitoringPath, parseAddCheckpoint } from "./witness-protocol.ts";

const leaves = decimals(0, 600).map(hashLeaf);
const other = [...leaves.slice(0, 2), hashLeaf(utf8("another history")), ...leaves.slice(3)];
const LOG: KnownLog = { origin: ORIGIN, verifiers: [logVerifier] };

const root = (size: number, of = leaves): Hash => rootOf(of.slice(0, size));
const note = (size: number, of = leaves, options: Parameters<typeof signedCheckpoint>[1] = {}) =>
  signedCheckpoint({ size, root: root(size, of) }, options);

async function request(oldSize: number, size: number, of = leaves): Promise<Uint8Array> {
  const proof = await buildConsistencyProof(oldSize, size, subtreeOf(of));
  return utf8(formatAddCheckpoint({ oldSize, proof, note: await note(size, of) }));
}

const opened = new Set<FolderWitnessStore>();
const folders: string[] = [];
after(async () => {
  for (const store of opened) await store.close();
  for (const folder of folders) await rm(folder, { recursive: true });
});

async function openFolder(home: string): Promise<FolderWitnessStore> {
  const store = await openWitnessFolder(home, witnessVerifier);
  opened.add(store);
  return store;
}

async function close(store: FolderWitnessStore): Promise<void> {
  opened.delete(store);
  await store.close();
}

async function witness(at?: string, store?: (inner: WitnessStore) => WitnessStore, logs = [LOG]) {
  const home = at ?? (await mkdtemp(path.join(tmpdir(), "vf-witness-")));
  if (at === undefined) folders.push(home);
  const inner = await openFolder(home);
  const options = { name: WITNESS, signer: witnessSigner, logs, now: () => WITNESS_TIME };
  const cosigner = new Cosigner({ ...options, store: store?.(inner) ?? inner });
  return { home, inner, cosigner, ask: (body: Uint8Array) => cosigner.addCheckpoint(body) };
}

function assertCosigned(answer: WitnessAnswer, of: Uint8Array): void {
  assert.equal(answer.status, 200, answer.body);
  const { signatures } = openNote(Buffer.concat([of, utf8(answer.body)]), [witnessVerifier]);
  assert.deepEqual(signatures, [{ verifier: witnessVerifier, time: WITNESS_TIME }]);
}

test("a log that grows is cosigned, and the same size once more", async () => {
  const { cosigner, ask } = await witness();
  let old = 0;
  for (const size of [0, 1, 2, 255, 256, 256, 257, 600]) {
    assertCosigned(await ask(await request(old, size)), await note(size));
    const shown = await cosigner.latest(monitoringPath(ORIGIN));
    assert.deepEqual(shown, await note(size, leaves, { witnessed: true }), "the published bytes, both lines");
    old = size;
  }
});

const row = async (oldSize: number, proof: readonly Hash[], signed: Uint8Array) =>
  utf8(formatAddCheckpoint({ oldSize, proof, note: signed }));
const proofOf = (oldSize: number, size: number, of = leaves) => buildConsistencyProof(oldSize, size, subtreeOf(of));

/** Each row of the protocol's table, at a witness that has cosigned `held` entries. */
const ROWS: readonly {
  readonly name: string;
  readonly held: number;
  readonly status: number;
  readonly body: () => Promise<Uint8Array>;
  readonly says?: string;
}[] = [
  { name: "no request at all", held: 0, status: 400, body: async () => new Uint8Array(0) },
  { name: "old beyond the checkpoint", held: 3, status: 400, body: async () => row(4, [], await note(3)) },
  {
    name: "old with a leading zero",
    held: 3,
    status: 400,
    body: async () => utf8(text(await request(3, 5)).replace("old 3", "old 03")),
  },
  {
    name: "64 proof hashes",
    held: 0,
    status: 400,
    body: async () => utf8(`old 1\n${`${"A".repeat(43)}=\n`.repeat(64)}\n${text(await note(3))}`),
  },
  { name: "a short proof hash", held: 0, status: 400, body: async () => utf8(`old 1\nAAAA\n\n${text(await note(3))}`) },
  { name: "an extension line", held: 0, status: 400, body: async () => row(0, [], await extended()) },
  { name: "no signature at all", held: 0, status: 400, body: async () => utf8(`old 0\n\n${ORIGIN}\n0\n`) },
  {
    name: "an unknown origin",
    held: 0,
    status: 404,
    body: async () => row(0, [], await note(3, leaves, { origin: "log.example/other" })),
  },
  {
    name: "only a stranger's signature",
    held: 0,
    status: 403,
    body: async () => row(0, [], await note(3, leaves, { signer: signerOf(9) })),
  },
  {
    name: "a trusted name and id with a wrong signature",
    held: 0,
    status: 403,
    body: async () => row(0, [], await forged()),
  },
  {
    name: "a right and a wrong line of one key",
    held: 0,
    status: 403,
    body: async () => row(0, [], Buffer.concat([await note(3), utf8(lineOf(await forged()))])),
  },
  { name: "an old size behind", held: 3, status: 409, says: "3\n", body: () => request(2, 5) },
  { name: "an old size ahead", held: 3, status: 409, says: "3\n", body: () => request(4, 5) },
  { name: "old 0 at a witness that knows more", held: 3, status: 409, says: "3\n", body: () => request(0, 5) },
  { name: "a rollback", held: 5, status: 409, says: "5\n", body: () => request(3, 4) },
  { name: "another history, proven from itself", held: 5, status: 422, body: () => request(5, 9, other) },
  { name: "another root of the same size", held: 5, status: 422, body: () => request(5, 5, other) },
  { name: "a proof for the same size", held: 5, status: 422, body: async () => row(5, [root(1)], await note(5)) },
  { name: "a proof from nothing", held: 0, status: 422, body: async () => row(0, [root(1)], await note(3)) },
  { name: "a missing proof", held: 3, status: 422, body: async () => row(3, [], await note(5)) },
  {
    name: "a proof with one hash more",
    held: 3,
    status: 422,
    body: async () => row(3, [...(await proofOf(3, 5)), root(1)], await note(5)),
  },
  {
    name: "an empty tree with a root",
    held: 0,
    status: 422,
    body: async () => row(0, [], await signedCheckpoint({ size: 0, root: root(1) })),
  },
];

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const lineOf = (signed: Uint8Array) => text(signed).split("\n\n")[1]!;

async function forged(signer: Signer = logSigner): Promise<Uint8Array> {
  const [good, wrong] = [await note(3), await signNote("something else\n", ORIGIN, signer)];
  return utf8(`${parseNote(good).text}\n${formatSignatureLine(wrong)}`);
}

async function extended(): Promise<Uint8Array> {
  const longer = `${parseNote(await note(3)).text}extension\n`;
  return utf8(`${longer}\n${formatSignatureLine(await signNote(longer, ORIGIN, logSigner))}`);
}

for (const { name, held, status, body, says } of ROWS) {
  test(`${name} is answered with ${status}, and changes nothing`, async () => {
    const { cosigner, ask } = await witness();
    if (held > 0) assertCosigned(await ask(await request(0, held)), await note(held));
    const before = await cosigner.latest(monitoringPath(ORIGIN));
    const answer = await ask(await body());
    assert.equal(answer.status, status, answer.body);
    if (says !== undefined) assert.deepEqual([answer.type, answer.body], ["text/x.tlog.size", says]);
    assert.deepEqual(await cosigner.latest(monitoringPath(ORIGIN)), before);
    assertCosigned(await ask(await request(held, 9)), await note(9));
  });
}

test("of a log with two keys each may sign; no other line is believed, kept or sent back", async () => {
  const second = signerOf(7);
  const both: KnownLog = { origin: ORIGIN, verifiers: [logVerifier, noteVerifier(ORIGIN, second.publicKey)] };
  const { cosigner, ask } = await witness(undefined, undefined, [both]);
  const lines = async (size: number) => {
    const { text } = parseNote(await note(size));
    const line = async (name: string, signer: Signer, time?: number) =>
      formatSignatureLine(await signNote(text, name, signer, time));
    return {
      text,
      first: await line(ORIGIN, logSigner),
      second: await line(ORIGIN, second),
      // Of a log that sends on what it gathered: an older line of this witness, and one of somebody else.
      own: await line(WITNESS, witnessSigner, WITNESS_TIME - 60),
      stranger: await line("witness.example/other", signerOf(9), WITNESS_TIME),
    };
  };
  const wrong = { second: formatSignatureLine(await signNote("something else\n", ORIGIN, second)) };
  const own = { wrong: formatSignatureLine(await signNote("something else\n", WITNESS, witnessSigner, 1)) };
  let held = 0;
  const send = async (size: number, pick: (of: Awaited<ReturnType<typeof lines>>) => string) => {
    const of = await lines(size);
    const signed = utf8(`${of.text}\n${pick(of)}`);
    const answer = await ask(await row(held, await proofOf(held, size), signed));
    if (answer.status === 200) held = size;
    return { answer, of };
  };
  const accepted: Parameters<typeof send>[1][] = [
    (of) => of.first,
    (of) => of.second,
    (of) => of.first + of.second,
    (of) => of.second + of.stranger + of.own + of.first,
    (of) => of.first + own.wrong,
  ];
  for (const [i, pick] of accepted.entries()) {
    const { answer, of } = await send(3 + i, pick);
    assert.equal(answer.status, 200, answer.body);
    const kept = [of.first, of.second].filter((line) => pick(of).includes(line));
    const shown = parseNote((await cosigner.latest(monitoringPath(ORIGIN)))!).signatures.map(formatSignatureLine);
    assert.deepEqual(shown.sort(), [...kept, answer.body].sort(), `${i}: the log's lines and the one just made`);
    assert.notEqual(answer.body, of.own);
  }
  const refused: Parameters<typeof send>[1][] = [
    (of) => of.own,
    (of) => of.stranger,
    (of) => of.own + of.stranger,
    (of) => of.first + wrong.second,
    (of) => wrong.second + of.first + of.own,
    (of) => of.first + of.second + of.second,
  ];
  for (const [i, pick] of refused.entries()) {
    const before = await cosigner.latest(monitoringPath(ORIGIN));
    assert.equal((await send(20, pick)).answer.status, 403, `${i}`);
    assert.deepEqual(await cosigner.latest(monitoringPath(ORIGIN)), before);
  }
});

test("every truncation and every changed byte of a request is refused, or is the same request", async () => {
  const { cosigner, ask } = await witness();
  await ask(await request(0, 3));
  const good = await request(3, 7);
  const before = await cosigner.latest(monitoringPath(ORIGIN));
  const seed = freshSeed();
  const below = randomFrom(seed);
  for (let at = 0; at < good.length; at++) {
    const cut = await ask(good.slice(0, at));
    assert.equal(cut.status, 400, `cut at ${at}`);
    const changed = good.slice();
    changed[at] = (changed[at]! + 1 + below(255)) % 256;
    const { status } = await ask(changed);
    assert.ok([400, 403, 404, 409, 422].includes(status), `byte ${at}, VIA_SEED=${seed}: ${status}`);
  }
  assert.deepEqual(await cosigner.latest(monitoringPath(ORIGIN)), before);
  assertCosigned(await ask(good), await note(7));
});

test("a request is spelled in one way", async () => {
  const good = await request(3, 7);
  assert.equal(formatAddCheckpoint(parseAddCheckpoint(good)), text(good));
});

test("of a hundred requests at once, over two histories and many sizes, one history remains", async () => {
  const { home, inner, cosigner, ask } = await witness();
  await ask(await request(0, 2));
  const bodies = await Promise.all(
    Array.from({ length: 100 }, (_, i) => request(2, 3 + (i % 50), i < 50 ? leaves : other)),
  );
  const answers = await Promise.all(bodies.map(ask));
  const cosigned = bodies.filter((_, i) => answers[i]!.status === 200).map((body) => parseAddCheckpoint(body).note);
  assert.equal(cosigned.length, 1, "all of them start from the same size");
  assert.ok(answers.every(({ status }) => status === 200 || status === 409));
  const shown = parseNote((await cosigner.latest(monitoringPath(ORIGIN)))!).text;
  assert.equal(shown, parseNote(cosigned[0]!).text);
  // And it is what a witness finds that is started on this folder.
  await close(inner);
  const again = await openFolder(home);
  assert.equal(parseNote((await again.read(LOG))!.note).text, shown);
});

test("a memory that was moved on by somebody else is not rolled back", async () => {
  let race: (() => Promise<void>) | undefined;
  const { ask, inner } = await witness(undefined, (store) => ({
    read: store.read,
    async replace(...args) {
      await race?.();
      return store.replace(...args);
    },
  }));
  await ask(await request(0, 2));
  const signed = await note(9, leaves, { witnessed: true });
  race = async () => {
    race = undefined;
    assert.ok(await inner.replace(LOG, { size: 2, root: root(2) }, { size: 9, root: root(9), note: signed }));
  };
  const answer = await ask(await request(2, 5));
  assert.deepEqual([answer.status, answer.body], [409, "9\n"]);
});

test("nothing is answered when the memory could not be written", async () => {
  let fails = true;
  const { ask } = await witness(undefined, (store) => ({
    read: store.read,
    async replace(...args) {
      if (fails) throw new OperationError("ERR_FILE", "the disk is full");
      return store.replace(...args);
    },
  }));
  await assert.rejects(ask(await request(0, 2)), { code: "ERR_FILE" });
  fails = false;
  assertCosigned(await ask(await request(0, 3)), await note(3));
});

test("a damaged memory, or one of another key or log, is not taken for an empty one", async () => {
  const { home, inner, ask } = await witness();
  await ask(await request(0, 5));
  const file = path.join(home, monitoringPath(ORIGIN));
  const good = new Uint8Array(await readFile(file));
  const wrong: [string, Uint8Array][] = [
    ["empty", new Uint8Array(0)],
    ["without the witness's line", await note(5)],
    ["without the log's line", utf8(text(good).replace(lineOf(await note(5)), ""))],
    [
      "of another log",
      await signedCheckpoint({ size: 5, root: root(5) }, { witnessed: true, origin: "log.example/x" }),
    ],
    ...[3, good.length >> 1, good.length - 30].map((at): [string, Uint8Array] => {
      const flipped = good.slice();
      flipped[at]! ^= 1;
      return [`byte ${at}`, flipped];
    }),
  ];
  for (const [name, bytes] of wrong) {
    await writeFile(file, bytes);
    for (const body of [await request(0, 7), await request(5, 7), await request(5, 9, other)])
      await assert.rejects(ask(body), { code: "ERR_WITNESS_STATE" }, name);
    assert.deepEqual(new Uint8Array(await readFile(file)), bytes, "it stays for whoever looks");
  }
  await writeFile(file, good);
  await close(inner);
  assertCosigned(await (await witness(home)).ask(await request(5, 7)), await note(7));
});

test("one process has the memory at a time", async () => {
  const { home } = await witness();
  await assert.rejects(openFolder(home), { code: "ERR_LOCKED" });
});

test("known logs: keys, lines of a policy, and nothing else", async () => {
  const vkey = formatVerifierKey(logVerifier);
  const second = noteVerifier(ORIGIN, signerOf(7).publicKey);
  const list = utf8(`# ours\n${vkey}\n\nlog ${vkey} https://log.example/\nwitness w1 x\ngroup g any w1\nquorum g\n`);
  assert.deepEqual(parseKnownLogs(list), [LOG]);
  const both = parseKnownLogs(list, utf8(formatVerifierKey(second)));
  assert.deepEqual(both, [{ origin: ORIGIN, verifiers: [logVerifier, second] }]);
  const wrong = [
    "",
    "# nothing\n",
    "log\n",
    `${vkey} x\n`,
    `log ${vkey} x y\n`,
    `${formatVerifierKey(witnessVerifier)}\n`,
  ];
  for (const bad of wrong) assert.throws(() => parseKnownLogs(utf8(bad)), { code: "ERR_LOG_POLICY" }, bad);
  assert.throws(() => parseKnownLogs(utf8("quorums none\n")));
});
