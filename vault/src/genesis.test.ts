import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeHead,
  decodeRules,
  decodeTrustKeys,
  findKey,
  formatHex,
  openNote,
  parseUtf8,
  parseVerifierKey,
  sha256,
  utf8,
} from "@viafabric/schemas";
import {
  authorityOf,
  createEnrolmentCard,
  KEYS_PATH,
  LINEAGE_PATH,
  POLICY_PATH,
  parseSigned,
  RULES_PATH,
  signGenesis,
} from "@viafabric/tuf";
import { DAY, genesisWorld, KEYS, NOW, namedSigner, signedBy } from "./fixtures.test.ts";
import { type GenesisOptions, planGenesis } from "./genesis.ts";
import {
  assembleGenesis,
  genesisFolder,
  genesisSigners,
  readGenesisFolder,
  signatureFilesIn,
} from "./genesis-folder.ts";

const text = (bytes: Uint8Array): string => formatHex(bytes);

test("three of five trustees make an authority", async () => {
  const { genesis, trustees } = await genesisWorld();
  const { trusted, files } = assembleGenesis(genesis, await signedBy(genesis, trustees.slice(0, 3)), NOW);
  assert.equal(text(trusted.authority), text(authorityOf(genesis.root)));
  assert.equal(trusted.trustees.threshold, 3);
  assert.deepEqual(
    [trusted.rootVersion, trusted.targetsVersion, trusted.batchesVersion, trusted.head.size],
    [1, 1, 1, 0],
  );
  assert.deepEqual(
    [trusted.expires.root, trusted.expires.targets, trusted.expires.batches].map((at) => (at - NOW) / DAY),
    [730, 365, 120],
  );
  assert.ok(files.root.length < 8000);
});

test("two are not enough, neither is one who signs twice, nor strangers, nor wrong signatures", async () => {
  const { genesis, trustees } = await genesisWorld();
  const [one, two] = await signedBy(genesis, trustees.slice(0, 2));
  const stranger = await signGenesis(namedSigner("stranger"), genesis);
  const other = await signGenesis(trustees[2]!, { ...genesis, root: genesis.targets, targets: genesis.root });
  const refused = (files: readonly Uint8Array[]) =>
    assert.throws(() => assembleGenesis(genesis, files, NOW), { code: "ERR_THRESHOLD" });
  refused([]);
  refused([one!, two!]);
  refused([one!, two!, two!]);
  refused([one!, two!, stranger]);
  refused([one!, two!, other]);
  assert.equal(genesisSigners(genesis, [one!, two!, two!, stranger, other]).length, 2);
  const third = await signGenesis(trustees[4]!, genesis);
  assert.equal(assembleGenesis(genesis, [other, stranger, one!, two!, two!, third], NOW).trusted.rootVersion, 1);
});

test("an expired genesis is refused", async () => {
  const { genesis, trustees } = await genesisWorld();
  const files = await signedBy(genesis, trustees);
  assert.throws(() => assembleGenesis(genesis, files, NOW + 121 * DAY), { code: "ERR_METADATA_EXPIRED" });
});

test("the trust files say who may do what", async () => {
  const { genesis, options, online } = await genesisWorld();
  const keys = decodeTrustKeys(genesis.targetFiles.get(KEYS_PATH)!);
  const purposes = keys.map(({ purpose }) => purpose).sort();
  assert.deepEqual(purposes, ["issuer", "operator", "release", "station", "station", "status"]);
  assert.ok(findKey(keys, options.operator.kid, "operator", NOW));
  assert.ok(findKey(keys, KEYS.release.publicKey.kid, "release", NOW));
  const rules = decodeRules(genesis.targetFiles.get(RULES_PATH)!);
  assert.deepEqual(rules.thresholds, { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 });
  assert.equal(text(rules.authority), text(genesis.authority));
  const [log, quorum] = parseUtf8(genesis.targetFiles.get(POLICY_PATH)!).trimEnd().split("\n");
  assert.equal(quorum, "quorum none");
  const verifier = parseVerifierKey(log!.split(" ")[1]!);
  assert.equal(verifier.name, "vault.example/log");
  assert.equal(text(verifier.key.raw), text(online.log.publicKey.raw));
  assert.throws(() => openNote(utf8("x\n\n— y AAAAAAAA\n"), [verifier]), { code: "ERR_NOTE_UNSIGNED" });
});

test("the policy root in every token is the hash of a signed file that names the authority", async () => {
  const { genesis } = await genesisWorld();
  const lineage = genesis.targetFiles.get(LINEAGE_PATH)!;
  assert.equal(text(genesis.settings.policyRoot), text(sha256(lineage)));
  assert.equal(JSON.parse(parseUtf8(lineage)).authority, text(genesis.authority));
  const listed = parseSigned("targets", genesis.targets).targets.get(LINEAGE_PATH)!;
  assert.equal(text(listed.sha256), text(sha256(lineage)));
});

test("the first head is empty, and all of its authority", async () => {
  const { genesis } = await genesisWorld();
  const head = decodeHead(genesis.headBytes);
  assert.deepEqual([head.size, head.next, head.log.size, head.floor.epoch, head.floor.n], [0, 0, 0, 0, 0]);
  assert.equal(text(head.authority), text(genesis.authority));
});

test("the folder comes back as it went", async () => {
  const { genesis, trustees } = await genesisWorld();
  const folder = new Map(genesisFolder(genesis));
  const [one, two, three] = await signedBy(genesis, trustees);
  folder.set("signatures/1.json", one!).set("signatures/2.json", two!).set("signatures/3.json", three!);
  const again = readGenesisFolder(folder);
  assert.deepEqual(again.settings.host, genesis.settings.host);
  assert.equal(text(again.authority), text(genesis.authority));
  assert.equal(again.targetFiles.size, 5);
  assembleGenesis(again, signatureFilesIn(folder), NOW);
});

test("a folder that somebody changed on the way is refused", async () => {
  const { genesis, trustees } = await genesisWorld();
  const files = await signedBy(genesis, trustees);
  const other = (await genesisWorld({ host: "thief.example", operator: namedSigner("thief").publicKey })).genesis;
  const otherCard = (await createEnrolmentCard(namedSigner("thief"), { name: "A trustee", role: "trustee" })).bytes;
  const changed = (change: readonly (readonly [string, Uint8Array])[]) =>
    readGenesisFolder(new Map([...genesisFolder(genesis), ...change]));
  const [card] = genesisFolder(genesis).keys();
  assert.throws(() => changed([[card!, otherCard]]), { code: "ERR_GENESIS" });
  assert.throws(() => changed([["cards/00.json", otherCard]]), { code: "ERR_CARD" });
  assert.throws(() => changed([["settings.json", genesisFolder(other).get("settings.json")!]]), {
    code: "ERR_GENESIS",
  });
  assert.throws(() => changed([["settings.json", utf8("{")]]), { code: "ERR_GENESIS" });
  assert.throws(() => changed([["settings.json", utf8("[]")]]), { code: "ERR_GENESIS" });
  const keys = changed([[`targets/${KEYS_PATH}`, other.targetFiles.get(KEYS_PATH)!]]);
  assert.throws(() => assembleGenesis(keys, files, NOW), { code: "ERR_METADATA_MISMATCH" });
  assert.throws(() => assembleGenesis(changed([["targets.json", other.targets]]), files, NOW), {
    code: "ERR_THRESHOLD",
  });
  assert.throws(() => assembleGenesis(changed([["head.cbor", utf8("x")]]), files, NOW), {
    code: "ERR_METADATA_MISMATCH",
  });
  for (const path of genesisFolder(genesis).keys()) {
    if (path.startsWith("targets/") && path !== `targets/${KEYS_PATH}` && path !== `targets/${LINEAGE_PATH}`) continue;
    const without = new Map([...genesisFolder(genesis)].filter(([at]) => at !== path));
    const read = () => assembleGenesis(readGenesisFolder(without), files, NOW);
    assert.throws(read, { name: "FormatError", code: /^ERR_(GENESIS|CARD)$/ }, path);
  }
});

test("a listed file that is not in the folder is missed", async () => {
  const { genesis, trustees } = await genesisWorld();
  const files = await signedBy(genesis, trustees);
  for (const path of genesis.targetFiles.keys()) {
    const targetFiles = new Map([...genesis.targetFiles].filter(([at]) => at !== path));
    const assemble = () => assembleGenesis({ ...genesis, targetFiles }, files, NOW);
    assert.throws(assemble, { code: "ERR_METADATA_MISMATCH" }, path);
  }
});

test("witnesses and their quorum go into the log policy", async () => {
  const vkey = "witness.example/w1+df1c0a35+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
  const { genesis } = await genesisWorld({ witnesses: { listed: [{ vkey, url: "https://w.example/" }], quorum: 1 } });
  assert.match(
    parseUtf8(genesis.targetFiles.get(POLICY_PATH)!),
    /\nwitness w1 .*\ngroup witnesses 1 w1\nquorum witnesses\n$/,
  );
  await assert.rejects(genesisWorld({ witnesses: { listed: [{ vkey }, { vkey }], quorum: 2 } }), {
    code: "ERR_LOG_POLICY",
  });
  for (const quorum of [0, 2, 1.5]) {
    await assert.rejects(genesisWorld({ witnesses: { listed: [{ vkey }], quorum } }), { code: "ERR_LOG_POLICY" });
  }
});

test("options that make no authority are refused", async () => {
  const { options } = await genesisWorld();
  const [t1, t2, t3, t4] = options.trustees;
  const refused = (change: Partial<GenesisOptions>, code: string) =>
    assert.throws(() => planGenesis({ ...options, ...change }), { code }, JSON.stringify(Object.keys(change)));
  refused({ threshold: 2 }, "ERR_CARD");
  refused({ threshold: 6 }, "ERR_CARD");
  refused({ threshold: 0 }, "ERR_CARD");
  refused({ threshold: 3.5 }, "ERR_CARD");
  refused({ threshold: 2, trustees: [t1!, t2!, t3!, t4!] }, "ERR_CARD");
  refused({ threshold: 1, trustees: [t1!, t2!, t3!] }, "ERR_CARD");
  refused({ trustees: [t1!, t2!] }, "ERR_CARD");
  refused({ trustees: [t1!, t1!, t2!, t3!] }, "ERR_GENESIS");
  refused({ trustees: options.stations }, "ERR_GENESIS");
  refused({ stations: options.releases }, "ERR_GENESIS");
  refused({ stations: [] }, "ERR_GENESIS");
  refused({ releases: [] }, "ERR_GENESIS");
  refused({ operator: namedSigner("trustee 1").publicKey }, "ERR_GENESIS");
  refused({ operator: options.online.issuer }, "ERR_GENESIS");
  refused({ online: { ...options.online, log: options.online.status } }, "ERR_GENESIS");
  refused({ host: "https://vault.example" }, "ERR_GENESIS");
  refused({ host: "" }, "ERR_GENESIS");
  refused({ iss: "a name with spaces" }, "ERR_GENESIS");
  refused({ logOrigin: "log example" }, "ERR_GENESIS");
  refused({ recordType: "example.org:token" }, "ERR_GENESIS");
  refused({ recordType: "rct" }, "ERR_GENESIS");
});

test("the smallest majority is the default threshold", async () => {
  const { options } = await genesisWorld();
  for (const [n, k] of [
    [3, 2],
    [4, 3],
    [5, 3],
  ] as const) {
    const { root } = planGenesis({ ...options, trustees: options.trustees.slice(0, n) });
    assert.equal(parseSigned("root", root).roles.root.threshold, k);
  }
});
