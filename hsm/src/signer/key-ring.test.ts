/**
 * Several keys of one role in one signer, as a process over a real token: a new one signs from the moment trustees have
 * listed it and not before, the old one still signs what names it, and the configuration alone puts nothing into force.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { verifyStatement } from "@viafabric/revocation";
import { decodeTrustKeys, type PublicKey } from "@viafabric/schemas";
import { assemble, buildRevocations, buildSnapshot, buildTimestamp, isMetadataSignature, keyId } from "@viafabric/tuf";
import type { SoftHsmToken } from "../index.ts";
import { connect, type SignerClient, type SignerProcess, startSigner } from "../signer-client.ts";
import { assertSigned, type Batch, DAY, NOW, refusedWith, TestAuthority } from "./testkit.test.ts";

let authority: TestAuthority;
let process: SignerProcess;
let signer: SignerClient;
let logged = 0;

before(async () => {
  authority = await TestAuthority.create();
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
  logged = await authority.found(signer);
});

after(async () => {
  await signer.close();
  await process.stop();
  await authority.remove();
});

async function append(...entries: Uint8Array[]): Promise<void> {
  await signer.append({ from: logged, entries });
  logged += entries.length;
}

/** A batch that names `issuer`, under a head that the signer has accepted. */
async function approved(issuer: PublicKey): Promise<Batch> {
  return authority.approve(signer, authority.draft(3, { issuer: issuer.kid }));
}

async function issue(batch: Batch, issuer: PublicKey): Promise<void> {
  const signatures = await signer.tokens(await authority.tokensRequest(batch));
  assertSigned(batch, issuer, signatures);
  const approval = authority.trustLeaf("batches", authority.batchesVersion, authority.batches);
  await append(approval, authority.batchLeaf(batch), ...batch.leaves);
}

async function statementSigner(): Promise<PublicKey> {
  const note = await signer.statement();
  const { targetFiles } = await authority.trustRequest();
  const keys = decodeTrustKeys(targetFiles.get("trust/keys.cbor")!);
  const verified = verifyStatement(note, { authority: authority.authority, keys });
  await append(authority.trustLeaf("statement", verified.statement.epoch, note));
  return verified.signer.key;
}

async function revocations(version: number) {
  const { statement } = await signer.state();
  const signed = buildRevocations({ version, expires: NOW + 30 * DAY, statement });
  const [signature] = await signer.metadata({ role: "revocations", signed });
  return { signed, ...signature! };
}

test("a new key is read when trust files come, and signs only once they name it", async () => {
  const [old] = authority.config.keys.issuer;
  const [issuer, status, online] = [
    await authority.holdAnother("issuer", "p256"),
    await authority.holdAnother("status"),
    await authority.holdAnother("revocations", "p256"),
  ];
  // The trustees' head names the new issuer key, but their key list does not know it yet.
  const batch = await approved(issuer.publicKey);
  await assert.rejects(issue(batch, issuer.publicKey), refusedWith("ERR_SIGNER_KEY"));
  const before = authority.config.keys;
  assert.deepEqual((await statementSigner()).kid, before.status[0]!.publicKey.kid);
  assert.equal((await revocations(1)).keyid, keyId(before.revocations[0]!.publicKey));

  await authority.signTargets();
  await signer.trust(await authority.trustRequest());
  await append(authority.trustLeaf("targets", 2, authority.targetsFile));
  await issue(batch, issuer.publicKey);
  assert.deepEqual((await statementSigner()).kid, status.publicKey.kid);
  const { keyid, sig, signed } = await revocations(2);
  assert.equal(keyid, keyId(online.publicKey));
  assert.ok(isMetadataSignature(online.publicKey, signed, sig));

  // What trustees approve under the old key is signed by the old key, and the threads come back to the new one.
  for (const key of [old!, issuer]) await issue(await approved(key.publicKey), key.publicKey);
});

test("a configuration that lost a key, or names another log key, is refused when it is read again", async () => {
  const good = await readFile(authority.configFile);
  const config = JSON.parse(good.toString());
  const strangers = { ...config, keys: { ...config.keys, log: config.keys.issuer[1], issuer: config.keys.issuer[0] } };
  for (const text of ["{", JSON.stringify(strangers)]) {
    await writeFile(authority.configFile, text);
    await assert.rejects(signer.trust(await authority.trustRequest()), refusedWith("ERR_SIGNER_CONFIG"));
  }
  await writeFile(authority.configFile, good);
  await signer.trust(await authority.trustRequest());
});

test("a configuration of before, with one key for each role and no brackets, is read", async () => {
  const good = await readFile(authority.configFile);
  await signer.close();
  await process.stop();
  const config = JSON.parse(good.toString());
  const { token, ...rest } = config;
  const keys = { ...config.keys, log: config.keys.log[0], timestamp: config.keys.timestamp[0] };
  const { tokenLabel, tokenSerial } = authority.config.hsm as SoftHsmToken;
  await writeFile(authority.configFile, JSON.stringify({ ...rest, keys, tokenLabel, tokenSerial }));
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
  assert.equal((await signer.state()).log.size, logged);
});

test("a root with another timestamp key: while clients change over the old one signs as well, and then no more", async () => {
  const expires = NOW + 30 * DAY;
  const { statement } = await signer.state();
  const next = (await signer.state()).metadata.get("revocations")!.version + 1;
  const revocations = buildRevocations({ version: next, expires, statement });
  const file = assemble(revocations, await signer.metadata({ role: "revocations", signed: revocations }));
  const request = await authority.trustRequest();
  const { accepted } = await signer.state();
  const roles = new Map([
    ["targets", { version: accepted.targets, file: request.targets }],
    ["batches", { version: accepted.batches, file: request.batches }],
    ["revocations", { version: next, file }],
  ]);
  const snapshotSigned = buildSnapshot({ version: 1, expires, roles });
  const snapshot = assemble(snapshotSigned, await signer.metadata({ role: "snapshot", signed: snapshotSigned }));
  const timestamp = async (version: number, bridge: boolean) => {
    const signed = buildTimestamp({ version, expires, snapshot: { version: 1, file: snapshot } });
    return (await signer.metadata({ role: "timestamp", signed, bridge })).map(({ keyid }) => keyid);
  };
  const key = await authority.holdAnother("timestamp");
  const [old] = authority.config.keys.timestamp;
  assert.deepEqual(await timestamp(1, true), [keyId(old!.publicKey)]);
  const root = await authority.nextRoot();
  await signer.trust({ ...request, roots: [root], headProof: [] });
  await append(authority.trustLeaf("root", 2, root));
  assert.deepEqual(await timestamp(2, false), [keyId(key.publicKey)], "by itself the new key alone");
  assert.deepEqual(
    await timestamp(2, true),
    [key, old!].map(({ publicKey }) => keyId(publicKey)),
    "asked again with it",
  );
  assert.deepEqual(
    await timestamp(3, true),
    [key, old!].map(({ publicKey }) => keyId(publicKey)),
  );
  assert.deepEqual(await timestamp(4, false), [keyId(key.publicKey)]);
});
