/**
 * A running vault whose database and whose signer's socket are in the hands of a thief, with the key of one trustee, one
 * short of the quorum. What trustees did not approve is not signed, not logged and not published; and when the thief has
 * gone, the vault goes on as if nobody had been there.
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { readSignerConfig, type SignerStatus } from "@viafabric/hsm/signer";
import { openKeystore } from "@viafabric/platform";
import {
  type CborMap,
  type CborValue,
  concat,
  decodeCbor,
  encodeCbor,
  formatBase64,
  formatDidKey,
  formatHex,
  readU32,
  SIGNATURE_BYTES,
  type Signer,
  u32,
} from "@viafabric/schemas";
import { proveInclusion } from "@viafabric/transparency-log/client";
import { assemble, createEnrolmentCard, signMetadata } from "@viafabric/tuf";
import { namedSigner } from "./fixtures.test.ts";
import { readIssuedBatch } from "./issue.ts";
import { connectionPool, openDatabase } from "./postgres.ts";
import { approveAs, batchRequest, eventually, foundedVault, type LivingVault, TRUSTEES } from "./testing-vault.test.ts";

const TOKENS = 8;
const MESSAGES = 600;
const [ONE, OTHER, LAST] = TRUSTEES as [Signer, Signer, Signer];
const THIEF = namedSigner("thief");

let vault: LivingVault;
let operator: Signer;
let database: ReturnType<typeof connectionPool>;

/** A vault with one batch, and its database. */
async function robbed(): Promise<void> {
  vault = await foundedVault();
  await vault.start();
  operator = await openKeystore(vault.home.operator, "only a test");
  // The server that the vault runs: whoever has its folder joins it.
  const { target } = await openDatabase({ folder: vault.home.db });
  database = connectionPool(target, 1);
  // Its triggers hold the vault's own code to the rules. Who has its owner's name switches them off.
  await database.query("SET session_replication_role = replica");
  const event = await proposed();
  await approveAs(vault, ONE, event);
  await approveAs(vault, OTHER, event);
  await published(event);
}

/** What was asked for last. */
let request: string;

/** @returns the event that answers it, and is not `dead` */
function answered(dead?: string): Promise<string> {
  return eventually(async () => {
    const { event } = await vault.send(undefined, "GET", `/requests/${request}`);
    return event === dead ? undefined : (event as string | undefined);
  }, "a proposal");
}

async function asked(route: string, body: unknown): Promise<string> {
  request = String((await vault.send(operator, "POST", route, body)).id);
  return answered();
}

const proposed = () => asked("/requests", batchRequest(TOKENS, vault.clock.now));

function published(event: string): Promise<true> {
  return eventually(async () => {
    const { state } = await vault.send(undefined, "GET", `/events/${event}`);
    return state === "published" ? true : undefined;
  }, "the publication");
}

const signerState = () => vault.service.sequencer.desk.deps.signer.state();

/** What must not change, whatever the thief does. */
async function world(): Promise<unknown> {
  const { log, batches, signed, accepted, statement }: SignerStatus = await signerState();
  const pointers = ["log/checkpoint", "tuf/metadata/timestamp.json", "revocation/latest"];
  const files = await Promise.all(pointers.map((name) => readFile(path.join(vault.home.public, name))));
  return { log, batches, signed, accepted, statement, files };
}

async function refusedWith(code: RegExp, what: string): Promise<void> {
  await eventually(async () => {
    vault.service.sequencer.wake();
    return code.test(vault.service.sequencer.health().problem ?? "") ? true : undefined;
  }, what);
}

/** @returns why */
function putAside(event: string): Promise<string> {
  return eventually(async () => {
    vault.service.sequencer.wake();
    const { state, endReason } = await vault.send(undefined, "GET", `/events/${event}`);
    return state === "superseded" ? String(endReason) : undefined;
  }, "the proposal put aside");
}

/** What was asked for is planned again, and nothing is in its way. */
async function approvedAgain(event: string, trustees: readonly Signer[] = [ONE, OTHER]): Promise<void> {
  const again = await answered(event);
  for (const trustee of trustees) await approveAs(vault, trustee, again);
  await published(again);
}

const isReported = () => vault.reports.filter((line) => line.includes("not what its quorum signed")).length;

async function forgedQuorum(): Promise<void> {
  const event = await proposed();
  const before = await world();
  const { signed } = await vault.send(undefined, "GET", `/events/${event}`);
  const bytes = new Uint8Array(Buffer.from(String(signed), "base64"));
  const honest = await signMetadata(ONE, bytes);
  const { sig } = await signMetadata(THIEF, bytes);
  const asOther = { keyid: (await signMetadata(OTHER, bytes)).keyid, sig };
  const metadata = assemble(bytes, [honest, asOther]);
  await database.query(`UPDATE "event" SET "state" = 'ready', "metadata" = $1 WHERE "id" = $2`, [
    Buffer.from(metadata),
    Buffer.from(event, "hex"),
  ]);
  assert.match(await putAside(event), /^ERR_THRESHOLD: .*of the 2 distinct keys needed/);
  assert.deepEqual(await world(), before);
  assert.equal(isReported(), 1);
  await approvedAgain(event);
}

/** Files under what trustees really signed: of targets, and the head of a batch; changed, and missing. */
async function forgedAttachments(): Promise<void> {
  const spoil = (event: string, name: string) =>
    database.query(`UPDATE "attachment" SET "bytes" = set_byte("bytes", 9, 0) WHERE "event_id" = $1 AND "name" = $2`, [
      Buffer.from(event, "hex"),
      name,
    ]);
  const remove = (event: string, name: string) =>
    database.query(`DELETE FROM "attachment" WHERE "event_id" = $1 AND "name" = $2`, [Buffer.from(event, "hex"), name]);
  const newStation = async () => {
    const card = await createEnrolmentCard(namedSigner("another station"), { name: "another", role: "station" });
    return asked("/trust-requests", { add: [formatBase64(card.bytes)], remove: [] });
  };
  const cases = [
    [newStation, spoil, "targets/trust/keys.cbor", /^ERR_METADATA_MISMATCH: .*trust\/keys.cbor/],
    [proposed, spoil, "head.cbor", /^ERR_/],
    [proposed, remove, "head.cbor", /^ERR_METADATA_MISMATCH: .*has no head/],
  ] as const;
  for (const [propose, forge, name, code] of cases) {
    const event = await propose();
    await approveAs(vault, ONE, event);
    const before = await world();
    assert.equal((await forge(event, name)).rowCount, 1, name);
    await approveAs(vault, OTHER, event);
    assert.match(await putAside(event), code);
    assert.deepEqual(await world(), before, name);
    await approvedAgain(event);
  }
}

/** A root that the old trustees have signed, all parts of it, and the new ones not yet. */
async function oldQuorumAlone(): Promise<void> {
  const joining = namedSigner("joins by a root");
  const card = await createEnrolmentCard(joining, { name: "joins", role: "trustee" });
  const change = { add: [formatBase64(card.bytes)], remove: [formatHex(ONE.publicKey.kid)] };
  const event = await asked("/rotation-requests", change);
  const before = await world();
  const id = Buffer.from(event, "hex");
  const { rows } = await database.query(`SELECT "id", "signed" FROM "event" WHERE "id" = $1 OR "rotation_id" = $1`, [
    id,
  ]);
  assert.equal(rows.length, 3);
  for (const { id: part, signed } of rows as { id: Buffer; signed: Buffer }[]) {
    const signatures = [await signMetadata(ONE, signed), await signMetadata(OTHER, signed)];
    const metadata = Buffer.from(assemble(new Uint8Array(signed), signatures));
    await database.query(`UPDATE "event" SET "state" = 'ready', "metadata" = $1 WHERE "id" = $2`, [metadata, part]);
  }
  assert.match(await putAside(event), /^ERR_THRESHOLD: .*of the 2 distinct keys needed/);
  assert.deepEqual(await world(), before);
  // The same bytes of the root are asked for again, now of all whom it needs.
  await approvedAgain(event, [ONE, OTHER, LAST]);
  assert.equal(vault.service.sequencer.desk.need().trusted.rootVersion, 2);
}

async function exchangedSubject(): Promise<void> {
  const event = await proposed();
  await approveAs(vault, ONE, event);
  const before = await world();
  const where = `WHERE "manifest_hash" IN (SELECT "manifest_hash" FROM "batch" WHERE "event_id" = $1)`;
  const id = Buffer.from(event, "hex");
  const { rows } = await database.query(`SELECT "index", "subject" FROM "token" ${where} ORDER BY "index"`, [id]);
  const [{ index, subject }] = rows as [{ index: string; subject: string }];
  const set = (name: string) => database.query(`UPDATE "token" SET "subject" = $1 WHERE "index" = $2`, [name, index]);
  await set(formatDidKey(THIEF.publicKey.raw));
  await approveAs(vault, OTHER, event);
  await refusedWith(/do not make the root/, "the signer's refusal");
  const { accepted, ...now } = (await world()) as { accepted: unknown };
  const { accepted: _, ...then } = before as { accepted: unknown };
  assert.deepEqual(now, then, "the head is accepted, as trustees wished, and nothing else has happened");
  await set(subject);
  vault.service.sequencer.wake();
  await published(event);
}

async function stolenSocket(t: TestContext): Promise<void> {
  const seed = randomInt(2 ** 31);
  const random = seeded(seed);
  const below = (n: number) => Math.floor(random() * n);
  const { socket } = await readSignerConfig(vault.home.signerConfig);
  const { desk } = vault.service.sequencer;
  const [record] = await desk.deps.store.loggedBatches(0, 1);
  const { signed } = await readIssuedBatch(desk, record!);
  const known = new Set(packs(signed.signatures));
  const before = await world();

  // Everything that the vault has ever asked of this signer, but for a new statement, which anybody may have.
  const columns = {
    ids: concat(...signed.tokens.map(({ rctId }) => rctId)),
    subjects: signed.tokens.map((token) => token.subject),
  };
  const { files, trusted } = desk.need();
  const proof = [...(await proveInclusion(desk.manifestFiles, trusted.head, 0))];
  const { targetFiles, roots, targets, batches } = files;
  const honest: readonly (readonly [string, CborMap])[] = [
    ["state", map({})],
    ["trust", map({ roots: [...roots], targets, batches, files: new Map(targetFiles), proof: [] })],
    ["batch", map({ manifest: record!.manifest, proof })],
    ["bodies", map({ batch: 1, ...columns, confirmations: new Map() })],
    ["tokens", map({ batch: 1, from: 0, count: TOKENS })],
    ["append", map({ from: desk.log.size, entries: [...signed.entries] })],
    ["append", map({ from: 0, entries: [...signed.entries.slice(0, 2)] })],
    ["statement", map({ reissue: true })],
    ["metadata", map({ role: "snapshot", signed: batches })],
  ];
  const counts = { asked: 0, answered: 0, refused: 0, hungUp: 0, signatures: 0 };
  let wire: Wire | undefined;
  for (let i = 0; i < MESSAGES; i++) {
    wire ??= await Wire.open(socket);
    const ordered = honest[i % honest.length]!;
    // Once as the vault asks, so that there is something to repeat; then anyhow.
    const first = i < honest.length;
    const [method, params] = first || random() < 0.5 ? ordered : honest[below(honest.length)]!;
    const frame = encodeCbor([1, method, params]);
    // One flipped bit makes the question for the last statement one for a new statement, which changes the world.
    const bytes = first || method === "statement" || random() < 0.4 ? frame : altered(frame, below);
    counts.asked++;
    const answer = await wire.ask(bytes);
    if (!answer) {
      counts.hungUp++;
      wire = undefined;
      continue;
    }
    const [, ok, result] = answer as [number, boolean, CborValue];
    if (!ok) counts.refused++;
    else counts.answered++;
    if (ok && method === "tokens" && result instanceof Uint8Array) {
      for (const signature of packs(result)) {
        counts.signatures++;
        assert.ok(known.has(signature), "a signature that is not public");
      }
    }
  }
  wire?.close();
  t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
  assert.ok(
    counts.signatures > 0 && counts.refused > 0 && counts.hungUp > 0,
    "the attack reached every kind of answer",
  );
  assert.deepEqual(await world(), before);
  const event = await proposed();
  await approveAs(vault, ONE, event);
  await approveAs(vault, OTHER, event);
  await published(event);
}

test("a stolen database and a stolen socket, while the vault runs", async (t) => {
  await robbed();
  try {
    await t.test(
      "database: an event with one trustee's signature is made ready, beside one of the thief's",
      forgedQuorum,
    );
    await t.test("database: other files lie under what trustees signed, or none", forgedAttachments);
    await t.test("database: the subject of a token is exchanged after trustees saw it", exchangedSubject);
    await t.test("socket: what is replayed, reordered and altered gives no signature that is not public", stolenSocket);
    // Last, because one of the two trustees leaves.
    await t.test("database: a root is made ready that only the old trustees signed", oldQuorumAlone);
  } finally {
    await database.end();
  }
});

function map(values: Readonly<Record<string, CborValue>>): CborMap {
  return new Map(Object.entries(values));
}

function packs(signatures: Uint8Array): string[] {
  const count = signatures.length / SIGNATURE_BYTES;
  return Array.from({ length: count }, (_, i) =>
    formatHex(signatures.slice(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES)),
  );
}

/** One byte is another one, or some are missing, or come twice. */
function altered(frame: Uint8Array, below: (n: number) => number): Uint8Array {
  const at = below(frame.length);
  const length = 1 + below(40);
  switch (below(3)) {
    case 0: {
      const flipped = frame.slice();
      flipped[at]! ^= 1 << below(8);
      return flipped;
    }
    case 1:
      return concat(frame.slice(0, at), frame.slice(at + length));
    default:
      return concat(frame.slice(0, at + length), frame.slice(at));
  }
}

class Wire {
  readonly #socket: Socket;
  #received: Uint8Array = new Uint8Array(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static open(at: string): Promise<Wire> {
    return new Promise((resolve, reject) => {
      const socket = connect(at, () => resolve(new Wire(socket)));
      socket.once("error", reject);
    });
  }

  /** Undefined when the signer hangs up. */
  ask(body: Uint8Array): Promise<CborValue | undefined> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      const ended = () => resolve(undefined);
      socket.once("close", ended);
      socket.on("error", ended);
      socket.on("data", (chunk) => {
        this.#received = concat(this.#received, new Uint8Array(chunk));
        if (this.#received.length < 4 || this.#received.length < 4 + readU32(this.#received, 0)) return;
        const answer = decodeCbor(this.#received.slice(4));
        this.#received = new Uint8Array(0);
        socket.removeAllListeners();
        resolve(answer);
      });
      socket.write(concat(u32(body.length), body));
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** mulberry32 */
function seeded(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
