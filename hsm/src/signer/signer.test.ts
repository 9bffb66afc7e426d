/** The bounded signer as a process over a real SoftHSM2 token: a batch from approval to release, and starting again. */
import assert from "node:assert/strict";
import { chmod, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { parseStatement, statementName, verifyStatement } from "@viafabric/revocation";
import {
  CodedError,
  decodeToken,
  decodeTrustKeys,
  encodeToken,
  equalBytes,
  formatBase64,
  hashLeaf,
  isValidSignature,
  noteVerifier,
  openNote,
  parseNote,
  rootOf,
  SIGNATURE_BYTES,
  sha256,
  signatureInput,
} from "@viafabric/schemas";
import { policyOfLog, verifyCheckpoint } from "@viafabric/transparency-log";
import { assemble, buildRevocations, buildSnapshot, buildTimestamp, verifyTrust } from "@viafabric/tuf";
import { performCeremony } from "../index.ts";
import { connect, type PinnedKey, type SignerClient, type SignerProcess, startSigner } from "../signer-client.ts";
import {
  type Batch,
  DAY,
  NOW,
  ORIGIN,
  refusedWith,
  signByTrustees,
  softSigner,
  TestAuthority,
} from "./testkit.test.ts";

let authority: TestAuthority;
let process: SignerProcess;
let signer: SignerClient;
const log: Uint8Array[] = [];
let batch: Batch;

before(async () => {
  authority = await TestAuthority.create();
  await start();
});

after(async () => {
  await stop();
  await authority.remove();
});

async function start(): Promise<void> {
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
}

async function stop(): Promise<void> {
  await signer.close();
  await process.stop();
}

function logRoot(): Uint8Array {
  return rootOf(log.map(hashLeaf));
}

async function append(...entries: Uint8Array[]): Promise<Uint8Array> {
  const note = await signer.append({ from: log.length, entries });
  log.push(...entries);
  const verified = verifyCheckpoint(policyOfLog(noteVerifier(ORIGIN, authority.config.keys.log[0]!.publicKey)), note);
  assert.equal(verified.size, log.length);
  assert.ok(equalBytes(verified.root, logRoot()));
  return note;
}

test("the socket is for its owner alone, and so is the memory", async () => {
  assert.equal((await stat(process.socket)).mode & 0o777, 0o600);
  await signer.trust(await authority.trustRequest());
  assert.equal((await stat(path.join(authority.folder, "signer", "signer.state"))).mode & 0o777, 0o600);
});

test("genesis: three trust leaves, the first statement and its leaf", async () => {
  const { unlogged } = await signer.state();
  assert.deepEqual(
    unlogged.map(({ kind, number }) => `${kind} ${number}`),
    ["root 1", "targets 1", "batches 1"],
  );
  await append(
    authority.trustLeaf("root", 1, authority.rootFile),
    authority.trustLeaf("targets", 1, authority.targetsFile),
    authority.trustLeaf("batches", 1, authority.batches),
  );
  const note = await signer.statement();
  const { epoch, n, log: covered, ages } = parseStatement(parseNote(note).text);
  assert.deepEqual([epoch, n, covered.size, ages.soft], [1, 0, 3, DAY]);
  await append(authority.trustLeaf("statement", 1, note));
  assert.deepEqual((await signer.state()).logged, { root: 1, targets: 1, batches: 1, statement: 1, transcript: 0 });
});

test("a batch: head accepted, tokens signed, leaves logged", async () => {
  batch = authority.draft(20);
  authority.include(batch);
  await authority.signHead();
  const trust = await authority.trustRequest();
  const accepted = await signer.trust(trust);
  assert.deepEqual(await signer.trust(trust), accepted, "asked again, nothing changes");
  authority.accepted();

  const request = await authority.tokensRequest(batch);
  const signatures = await signer.tokens(request);
  const issuer = authority.config.keys.issuer[0]!.publicKey;
  batch.payloads.forEach((payload, i) => {
    const signature = signatures.slice(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES);
    assert.ok(isValidSignature(issuer, signatureInput("ed25519", payload), signature));
    const token = decodeToken(encodeToken({ algorithm: "ed25519", kid: issuer.kid, payload, signature }));
    assert.equal(token.body.index, i);
  });
  assert.deepEqual(await signer.tokens(request), signatures, "asked again, the same signatures");
  assert.deepEqual((await signer.state()).signed, [0]);

  await append(authority.trustLeaf("batches", 2, authority.batches), authority.batchLeaf(batch), ...batch.leaves);
  const { batches, n, signed } = await signer.state();
  assert.deepEqual([batches, n, signed], [1, 20, []]);
});

test("the same append again has the same answer; another one in its place is a fork", async () => {
  const entries = [authority.trustLeaf("batches", 2, authority.batches), authority.batchLeaf(batch), ...batch.leaves];
  const again = await signer.append({ from: log.length - entries.length, entries });
  assert.ok(equalBytes(again, (await signer.state()).checkpoint));
  await assert.rejects(
    signer.append({ from: log.length - entries.length, entries: entries.slice(0, -1) }),
    refusedWith("ERR_LOG_FORK"),
  );
});

test("a transcript of a key ceremony is logged once, in order, and only when its keys have signed it", async () => {
  const { hsm, keys } = authority.config;
  const wanted = (["issuer", "log"] as const).map((role) => {
    const [{ id, publicKey }] = keys[role] as [PinnedKey];
    return { role, id, expected: publicKey };
  });
  const hold = (number: number, owner = authority.authority) =>
    performCeremony(hsm, { authority: owner, number, made: NOW, action: "check", tool: "test", keys: wanted });
  const first = await hold(1);
  const leaf = authority.trustLeaf("transcript", 1, first);
  await assert.rejects(append(leaf), hasCode("ERR_LEAF_REFUSED"), "before the signer has seen it");
  const altered = Buffer.from(Buffer.from(first).toString().replace('"made": ', '"made": 1'));
  await assert.rejects(signer.transcript(altered), hasCode("ERR_TRANSCRIPT_REFUSED"));
  await assert.rejects(signer.transcript(first.subarray(1)), hasCode("ERR_TRANSCRIPT"));
  await assert.rejects(signer.transcript(await hold(2)), hasCode("ERR_SIGNER_ORDER"));
  await assert.rejects(signer.transcript(await hold(1, sha256(first))), hasCode("ERR_AUTHORITY"));
  await signer.transcript(first);
  await signer.transcript(first);
  assert.deepEqual(
    (await signer.state()).unlogged.map(({ kind, number }) => `${kind} ${number}`),
    ["transcript 1"],
  );
  await assert.rejects(append(authority.trustLeaf("transcript", 1, altered)), hasCode("ERR_LEAF_REFUSED"));
  await append(leaf);
  await assert.rejects(append(leaf), hasCode("ERR_LEAF_REFUSED"), "once");
  await assert.rejects(signer.transcript(first), hasCode("ERR_SIGNER_ORDER"));
  assert.equal((await signer.state()).logged.transcript, 1);
});

test("status events change the planes that the next statement signs", async () => {
  const { trustees, release, station } = authority;
  const range = (first: number, count: number) => [{ first, count }];
  await append(await authority.eventLeaf({ action: "release", ranges: range(0, 20) }, [release]));
  const suspension = log.length;
  await append(await authority.eventLeaf({ action: "suspend", ranges: range(3, 2) }, [trustees[4]!]));
  await append(await authority.eventLeaf({ action: "suspend", ranges: range(5, 2) }, [station]));
  await append(await authority.eventLeaf({ action: "revoke", ranges: range(0, 2) }, trustees.slice(0, 2)));
  const undo = { action: "reinstate", ranges: range(3, 1), undoes: [suspension] } as const;
  await append(await authority.eventLeaf(undo, trustees.slice(1, 4)));

  const previous = (await signer.state()).statement;
  const note = await signer.statement();
  const keys = decodeTrustKeys((await authority.trustRequest()).targetFiles.get("trust/keys.cbor")!);
  const { statement } = verifyStatement(note, { authority: authority.authority, keys });
  assert.equal(statement.epoch, 2);
  assert.equal(statement.n, 20);
  assert.equal(statement.batches, 2);
  assert.deepEqual(
    statement.planes.map(({ count }) => count),
    [2, 3, 0],
  );
  assert.deepEqual(statement.previous, sha256(Buffer.from(parseNote(previous).text)));
  assert.deepEqual(await signer.statement({ reissue: true }), note);
  openNote(note, [noteVerifier(statementName(authority.authority), authority.config.keys.status[0]!.publicKey)]);
  await append(authority.trustLeaf("statement", 2, note));
});

test("online metadata that lists what is true is signed, and clients accept it", async () => {
  const { statement, accepted } = await signer.state();
  const { targets, batches } = await authority.trustRequest();
  const sign = async (role: "revocations" | "snapshot" | "timestamp", signed: Uint8Array) => {
    const signatures = await signer.metadata({ role, signed });
    assert.equal(signatures.length, 1);
    assert.deepEqual(await signer.metadata({ role, signed, bridge: true }), signatures, "no root came before");
    return assemble(signed, signatures);
  };
  const expires = NOW + 30 * DAY;
  const revocations = await sign("revocations", buildRevocations({ version: 1, expires, statement }));
  const roles = new Map([
    ["targets", { version: accepted.targets, file: targets }],
    ["batches", { version: accepted.batches, file: batches }],
    ["revocations", { version: 1, file: revocations }],
  ]);
  const snapshot = await sign("snapshot", buildSnapshot({ version: 1, expires, roles }));
  const timestamp = await sign(
    "timestamp",
    buildTimestamp({ version: 1, expires, snapshot: { version: 1, file: snapshot } }),
  );
  const trust = await authority.trustRequest();
  const targetFiles = new Map([...trust.targetFiles, ["revocation/statement", statement]]);
  verifyTrust({ pinned: { file: authority.rootFile }, ...trust, targetFiles, revocations, snapshot, timestamp }, NOW);
  await mkdir(path.join(authority.config.public, "tuf", "metadata"), { recursive: true });
  await writeFile(path.join(authority.config.public, "tuf", "metadata", "timestamp.json"), timestamp);
});

test("a signer that starts again goes on where it stopped", async () => {
  const before = await signer.state();
  for (const [name, bytes] of [
    ["log/checkpoint", before.checkpoint],
    ["revocation/latest", before.statement],
  ] as const) {
    await mkdir(path.join(authority.config.public, path.dirname(name)), { recursive: true });
    await writeFile(path.join(authority.config.public, name), bytes);
  }
  await stop();
  await start();
  assert.deepEqual(await signer.state(), before);
  const note = await signer.statement();
  await append(authority.trustLeaf("statement", 3, note));
});

test("killed while it works, it starts again and gives the same answers", async () => {
  const big = await authority.approve(signer, authority.draft(300));
  const request = await authority.tokensRequest(big);
  const before = await authority.stateBytes();
  const interrupted = signer.tokens(request).then(
    () => "answered",
    (error: unknown) => (error instanceof CodedError ? error.code : "another error"),
  );
  // Its memory changes before it signs; from then on it is signing.
  while (before.equals(await authority.stateBytes()));
  globalThis.process.kill(process.pid, "SIGKILL");
  assert.equal(await interrupted, "ERR_SIGNER");
  await process.exited;
  await start();
  assert.deepEqual((await signer.state()).signed, [1]);
  assert.equal((await signer.tokens(request)).length, 300 * SIGNATURE_BYTES);

  const batches = authority.trustLeaf("batches", 3, authority.batches);
  const entries = [batches, authority.batchLeaf(big), ...big.leaves];
  const from = log.length;
  const memory = await authority.stateBytes();
  const lost = signer.append({ from, entries }).catch(() => undefined);
  while (memory.equals(await authority.stateBytes()));
  globalThis.process.kill(process.pid, "SIGKILL");
  await lost;
  await process.exited;
  await start();
  await append(...entries);
  assert.equal((await signer.state()).log.size, log.length);
});

test("with an older memory than what is published it does not start", async () => {
  const before = await signer.state();
  const older = await authority.stateBytes();
  const statement = await signer.statement();
  const checkpoint = await append(authority.trustLeaf("statement", 4, statement));
  await stop();
  const newer = await authority.stateBytes();
  const stateFile = path.join(authority.folder, "signer", "signer.state");
  await writeFile(stateFile, older);
  // Each pointer by itself is enough.
  for (const [name, now, then] of [
    ["log/checkpoint", checkpoint, before.checkpoint],
    ["revocation/latest", statement, before.statement],
  ] as const) {
    await writeFile(path.join(authority.config.public, name), now);
    await assert.rejects(startSigner(authority.configFile), hasCode("ERR_SIGNER_BEHIND"), name);
    await writeFile(path.join(authority.config.public, name), then);
  }
  const pointer = path.join(authority.config.public, "tuf/metadata/timestamp.json");
  const known = await readFile(pointer);
  for (const [version, snapshotVersion] of [
    [2, 1],
    [1, 2],
  ] as const) {
    const snapshot = { version: snapshotVersion, file: known };
    const signed = buildTimestamp({ version, expires: NOW + DAY, snapshot });
    // Whoever signed it: the world may have seen it.
    await writeFile(pointer, await signByTrustees(signed));
    await assert.rejects(startSigner(authority.configFile), hasCode("ERR_SIGNER_BEHIND"), `timestamp ${version}`);
  }
  await writeFile(pointer, known);
  await rm(stateFile);
  await assert.rejects(startSigner(authority.configFile), hasCode("ERR_SIGNER_BEHIND"));
  await writeFile(stateFile, newer);
  await start();
});

test("it refuses to start: no module, wrong PIN, wrong key behind an id, damaged memory, a second one", async () => {
  await assert.rejects(startSigner(authority.configFile), hasCode("ERR_LOCKED"));
  await stop();
  const config = JSON.parse(await readFile(authority.configFile, "utf8"));
  const wrongPin = path.join(authority.folder, "wrong-pin");
  await writeFile(wrongPin, "nonsense\n");
  await chmod(wrongPin, 0o600);
  const {
    issuer: [issuer],
    log: [logKey],
  } = config.keys;
  const changes: readonly (readonly [string, object])[] = [
    ["ERR_HSM_MODULE", { module: "/nowhere/libpkcs11.so" }],
    ["ERR_HSM_TOKEN", { token: "pkcs11:serial=ffffffffffffffff" }],
    ["ERR_HSM_TOKEN", { token: `${config.token};model=another` }],
    ["ERR_SIGNER_CONFIG", { token: `${config.token}?pin-source=/tmp/pin` }],
    ["ERR_SIGNER_CONFIG", { token: `${config.token};pin-value=1234` }],
    ["ERR_HSM_PIN", { pinFile: wrongPin }],
    ["ERR_HSM_KEY", { keys: { ...config.keys, issuer: [{ ...issuer, id: logKey.id }] } }],
    ["ERR_HSM_KEY", { keys: { ...config.keys, issuer: [issuer, { ...issuer, spki: formatBase64(STRANGER) }] } }],
    ["ERR_SIGNER_CONFIG", { keys: { ...config.keys, issuer: [] } }],
    ["ERR_SIGNER_CONFIG", { keys: { ...config.keys, log: [logKey, issuer], issuer: config.keys.status } }],
    ["ERR_SIGNER_CONFIG", { keys: { ...config.keys, issuer: logKey } }],
    ["ERR_SIGNER_CONFIG", { surprise: 1 }],
  ];
  const other = path.join(authority.folder, "signer", "other.json");
  for (const [code, change] of changes) {
    await writeFile(other, JSON.stringify({ ...config, ...change }));
    await assert.rejects(startSigner(other), hasCode(code), code);
  }
  const stateFile = path.join(authority.folder, "signer", "signer.state");
  const memory = await authority.stateBytes();
  const damaged = Buffer.from(memory);
  damaged[memory.length >> 1]! ^= 1;
  // Cut within its first record, which no crash tears; with a bit flipped further in; and empty.
  for (const file of [memory.subarray(0, 100), damaged, new Uint8Array(0)]) {
    await writeFile(stateFile, file);
    await assert.rejects(startSigner(authority.configFile), hasCode("ERR_SIGNER_STATE"));
  }
  await writeFile(stateFile, memory);
  await start();
});

const STRANGER = softSigner("stranger").publicKey.spki;

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CodedError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}
