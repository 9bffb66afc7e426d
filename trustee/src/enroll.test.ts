import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import {
  CodedError,
  decodeTrustKeys,
  encodeHead,
  encodeTrustKeys,
  formatHex,
  formatWords,
  genesisHead,
  isValidSignature,
  type KeyEntry,
  sha256,
} from "@viafabric/schemas";
import { buildBatches, buildTargets, HEAD_PATH, parseGenesisSignatures, parseSigned } from "@viafabric/tuf";
import { enroll, reviewEnrolment } from "./commands.ts";
import {
  DAY,
  fingerprint,
  NOW,
  namedSigner,
  PASSPHRASE,
  removeTemplate,
  SECRET,
  withGenesis,
} from "./fixtures.test.ts";
import { openSigner, readFirstRoot, readOwnKey } from "./home.ts";

after(removeTemplate);

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test("a trustee builds the root from the cards, sees the authority in words and signs the three", () =>
  withGenesis(async (_folder, [home], genesis) => {
    const review = await reviewEnrolment(home!, genesis, NOW);
    assert.equal(review.words, formatWords(sha256(review.parts.root)));
    const file = await enroll(home!, genesis, review, SECRET, NOW);
    const signatures = parseGenesisSignatures(new Uint8Array(await readFile(file)));
    const { publicKey } = await openSigner(home!, PASSPHRASE);
    for (const role of ["root", "targets", "batches"] as const)
      assert.ok(isValidSignature(publicKey, review.parts[role], signatures[role].sig));
    assert.deepEqual((await readFirstRoot(home!)).authority, review.authority);
    assert.equal(await enroll(home!, genesis, review, SECRET, NOW), file, "again, to the same effect");
    await assert.rejects(
      enroll(home!, genesis, review, async () => "wrong", NOW),
      refusedWith("ERR_PASSPHRASE"),
    );
  }));

test("a home belongs to one authority: another genesis is not signed by it", () =>
  withGenesis(async (_folder, [home], genesis) => {
    await enroll(home!, genesis, await reviewEnrolment(home!, genesis, NOW), SECRET, NOW);
    const batches = parseSigned("targets", await bytesOf(genesis, "batches.json"));
    const head = new Uint8Array(await readFile(path.join(genesis, "head.cbor")));
    await writeFile(
      path.join(genesis, "batches.json"),
      buildBatches({ version: 1, expires: batches.expires - 1, head }),
    );
    const other = await reviewEnrolment(home!, genesis, NOW);
    const before = await fingerprint(home!.folder);
    await assert.rejects(enroll(home!, genesis, other, SECRET, NOW), refusedWith("ERR_PROPOSAL_TWICE"));
    assert.deepEqual(await fingerprint(home!.folder), before);
  }));

test("what a first meeting may not sign is refused, and nothing is written", () =>
  withGenesis(async (folder, [home, other], genesis) => {
    const root = await bytesOf(genesis, "root.json");
    const targets = parseSigned("targets", await bytesOf(genesis, "targets.json"));
    const authority = sha256(root);
    const keys = decodeTrustKeys(await bytesOf(genesis, "targets/trust/keys.cbor"));
    const otherKid = formatHex((await readOwnKey(other!)).kid);
    const trusteeKid = formatHex((await openSigner(home!, PASSPHRASE)).publicKey.kid);
    const stranger: KeyEntry = {
      ...keys.find((key) => key.purpose === "station")!,
      key: namedSigner("stranger").publicKey,
    };
    const files = new Map<string, Uint8Array>();
    for (const name of targets.targets.keys()) files.set(name, await bytesOf(genesis, `targets/${name}`));
    const quorum = targets.delegations.find(({ name }) => name === "batches")!.role;
    const build = (change: Partial<Parameters<typeof buildTargets>[0]>) =>
      buildTargets({ version: 1, expires: targets.expires, targets: files, batches: quorum, ...change });
    const withKeys = (entries: readonly KeyEntry[]) => {
      const bytes = encodeTrustKeys(entries);
      return {
        "targets/trust/keys.cbor": bytes,
        "targets.json": build({ targets: new Map([...files, ["trust/keys.cbor", bytes]]) }),
      };
    };
    const withHead = (head: Uint8Array) => ({
      "head.cbor": head,
      "batches.json": buildBatches({ version: 1, expires: NOW + 100 * DAY, head }),
    });
    const attempts: Readonly<Record<string, readonly [string, Readonly<Record<string, Uint8Array | undefined>>]>> = {
      "a card less": ["ERR_GENESIS", { [`cards/${trusteeKid}.json`]: undefined }],
      "another trustee's card less": ["ERR_CARD", { [`cards/${otherKid}.json`]: undefined }],
      "a root that the cards do not make": [
        "ERR_PROPOSAL_MISMATCH",
        { "root.json": Buffer.from(Buffer.from(root).toString().replace('"threshold":2', '"threshold":1')) },
      ],
      "a lower threshold for batches": [
        "ERR_PROPOSAL_MISMATCH",
        { "targets.json": build({ batches: { ...quorum, threshold: 1 } }) },
      ],
      "fewer keys for batches": [
        "ERR_PROPOSAL_MISMATCH",
        { "targets.json": build({ batches: { ...quorum, keys: quorum.keys.slice(1) } }) },
      ],
      "targets for ten years": ["ERR_PROPOSAL_POLICY", { "targets.json": build({ expires: NOW + 3650 * DAY }) }],
      "targets of version 2": ["ERR_PROPOSAL_MISMATCH", { "targets.json": build({ version: 2 }) }],
      "an unlisted rule file": ["ERR_METADATA_MISMATCH", { "targets/trust/rules.cbor": new Uint8Array(1) }],
      "a station nobody enrolled": ["ERR_PROPOSAL_MISMATCH", withKeys([...keys, stranger])],
      "a trustee who is also the issuer": [
        "ERR_PROPOSAL_POLICY",
        withKeys([...keys, { ...stranger, purpose: "issuer", key: quorum.keys[0]! }]),
      ],
      "a head with batches in it": [
        "ERR_PROPOSAL_MISMATCH",
        withHead(encodeHead({ ...genesisHead(authority, NOW), size: 1, next: 5 })),
      ],
      "a head of another authority": ["ERR_AUTHORITY", withHead(encodeHead(genesisHead(new Uint8Array(32), NOW)))],
      "an old head": ["ERR_PROPOSAL_MISMATCH", withHead(encodeHead(genesisHead(authority, NOW - 30 * DAY)))],
    };
    assert.ok(targets.targets.size > 0 && HEAD_PATH);
    for (const [what, [code, changes]] of Object.entries(attempts)) {
      const kept = new Map<string, Uint8Array>();
      for (const [name, bytes] of Object.entries(changes)) {
        const file = path.join(genesis, name);
        kept.set(file, new Uint8Array(await readFile(file)));
        await (bytes ? writeFile(file, bytes) : rm(file));
      }
      const before = await fingerprint(folder);
      await assert.rejects(
        (async () => enroll(home!, genesis, await reviewEnrolment(home!, genesis, NOW), SECRET, NOW))(),
        (error) => {
          assert.ok(error instanceof CodedError, `${what}: ${error}`);
          return assert.equal(error.code, code, `${what}: ${error.message}`) === undefined;
        },
      );
      assert.deepEqual(await fingerprint(folder), before, what);
      for (const [file, bytes] of kept) await writeFile(file, bytes);
    }
    await reviewEnrolment(home!, genesis, NOW);
  }));

async function bytesOf(folder: string, name: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(path.join(folder, name)));
}
