/** What a database may call ready: every part is forged once, and once it is all true. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, formatBase64, type Signer } from "@viafabric/schemas";
import { assemble, createEnrolmentCard, detachTargets, HEAD_PATH, KEYS_PATH, signMetadata } from "@viafabric/tuf";
import { DAY, genesisWorld, NOW, namedSigner, signedBy } from "./fixtures.test.ts";
import { assembleGenesis } from "./genesis-folder.ts";
import type { QuorumFiles } from "./published.ts";
import { verifyReady } from "./ready.ts";
import type { EventRecord, PlannedEvent } from "./records.ts";
import { parseRotationChange, proposeRotation } from "./rotation.ts";
import { parseTrustChange, proposeTargets } from "./trust-change.ts";

const LATER = NOW + DAY;
const THIEF = namedSigner("thief");

async function world() {
  const { genesis, trustees } = await genesisWorld();
  const { files, trusted } = assembleGenesis(genesis, await signedBy(genesis, trustees.slice(0, 3)), NOW);
  const inForce: QuorumFiles = {
    roots: [],
    targets: files.targets,
    batches: files.batches,
    targetFiles: new Map([...genesis.targetFiles, [HEAD_PATH, genesis.headBytes]]),
  };
  const verify = ({ proposal }: PlannedEvent, change: Partial<QuorumFiles>) =>
    verifyReady({ proposal } as EventRecord, { file: files.root }, { ...inForce, ...change });
  return { trustees, trusted, inForce, headBytes: genesis.headBytes, verify };
}

const fileOf = async (signed: Uint8Array, signers: readonly Signer[]) =>
  assemble(signed, await Promise.all(signers.map((signer) => signMetadata(signer, signed))));

test("targets are ready with their own files, all of them, under k signatures", async () => {
  const { trustees, trusted, headBytes, verify } = await world();
  const change = (name: string) => {
    const rotate = [{ purpose: "issuer", spki: formatBase64(namedSigner(name).publicKey.spki), class: "software" }];
    return proposeTargets(parseTrustChange({ add: [], remove: [], rotate }), trusted, 1, LATER);
  };
  const event = change("next issuer");
  const { signed } = event.proposal;
  const own = new Map(event.attachments.map(({ name, bytes }) => [name, bytes]));
  const targetFiles = new Map([...detachTargets(own), [HEAD_PATH, headBytes]]);
  const targets = await fileOf(signed, trustees.slice(0, 3));
  verify(event, { targets, targetFiles });
  const without = (path: string) => new Map([...targetFiles].filter(([name]) => name !== path));
  const profile = [...targetFiles.keys()].find((path) => path.startsWith("profiles/"))!;
  const spoilt = (path: string) => new Map(targetFiles).set(path, targetFiles.get(path)!.with(9, 0));
  const cases: readonly (readonly [string, string, Partial<QuorumFiles>])[] = [
    ["no file", "ERR_METADATA", { targets: new Uint8Array(0), targetFiles }],
    ["two signatures", "ERR_THRESHOLD", { targets: await fileOf(signed, trustees.slice(0, 2)), targetFiles }],
    ["a thief's", "ERR_THRESHOLD", { targets: await fileOf(signed, [...trustees.slice(0, 2), THIEF]), targetFiles }],
    ["another key list", "ERR_METADATA_MISMATCH", { targets, targetFiles: spoilt(KEYS_PATH) }],
    ["no key list", "ERR_METADATA_MISMATCH", { targets, targetFiles: without(KEYS_PATH) }],
    ["another profile", "ERR_METADATA_MISMATCH", { targets, targetFiles: spoilt(profile) }],
    ["no profile", "ERR_METADATA_MISMATCH", { targets, targetFiles: without(profile) }],
    ["targets in force", "ERR_METADATA_MISMATCH", {}],
  ];
  for (const [what, code, forged] of cases) assert.throws(() => verify(event, forged), { code }, what);
  assert.throws(() => verify(change("another issuer"), { targets, targetFiles }), { code: "ERR_METADATA_MISMATCH" });
});

test("a root is ready when old and new trustees signed it, and what it carries", async () => {
  const { trustees, trusted, inForce, headBytes, verify } = await world();
  const remove = trustees.slice(0, 2).map(({ publicKey }) => Buffer.from(publicKey.kid).toString("hex"));
  const joining = namedSigner("joins");
  const card = formatBase64((await createEnrolmentCard(joining, { name: "joins", role: "trustee" })).bytes);
  const base = { trusted, head: headBytes, last: { targets: 1, batches: 1 }, former: [], now: LATER };
  const event = proposeRotation(parseRotationChange({ add: [card], remove }), base);
  const { targets, batches } = event.parts!;
  const [old, all] = [trustees.slice(0, 3), [...trustees, joining]];
  const files = async (of: Partial<Record<"root" | "targets" | "batches", readonly Signer[]>>) => ({
    roots: [await fileOf(event.proposal.signed, of.root ?? all)],
    targets: await fileOf(targets.signed, of.targets ?? all),
    batches: await fileOf(batches.signed, of.batches ?? all),
  });
  verify(event, await files({}));
  for (const role of ["root", "targets", "batches"] as const) {
    const forged = await files({ [role]: old });
    assert.throws(() => verify(event, forged), { code: "ERR_THRESHOLD" }, `${role} by the old quorum alone`);
  }
  assert.throws(() => verify(event, { roots: [] }), CodedError, "no root");
  const carried = { ...(await files({})), targets: inForce.targets };
  assert.throws(() => verify(event, carried), CodedError, "the targets of the old root");
});
