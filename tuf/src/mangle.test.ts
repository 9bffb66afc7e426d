import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, concat, equalBytes, readU32, sha256, u32, utf8 } from "@viafabric/schemas";
import { createAuthority, DAY, ed25519Signer, type Files, NOW, publish } from "./fixtures.test.ts";
import {
  attachBatches,
  createEnrolmentCard,
  detachBatches,
  encodeAuthorityCard,
  parseAuthorityCard,
  parseMetadata,
  parseSigned,
  verifyEnrolmentCard,
  verifyRootChain,
  verifyTrust,
} from "./index.ts";

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

/** SHA-256 in counter mode: the same seed breaks the same bytes. */
function randomFrom(name: string): (below: number) => number {
  let counter = 0;
  return (below) => readU32(sha256(concat(utf8(name), u32(seed), u32(counter++))), 0) % below;
}

function mutate(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  const out = Buffer.from(bytes);
  const at = random(out.length);
  switch (random(4)) {
    case 0:
      out[at]! ^= 1 << random(8);
      return new Uint8Array(out);
    case 1:
      return new Uint8Array(out.subarray(0, at));
    case 2:
      return concat(out.subarray(0, at), new Uint8Array([random(256)]), out.subarray(at));
    default:
      return concat(out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + random(40))));
  }
}

test(`bytes from outside give a value or a coded error (seed ${seed})`, async () => {
  const authority = await createAuthority();
  const files: Files = new Map();
  await publish(authority, files);
  const metadata = (name: string) => files.get(`tuf/metadata/${name}.json`)!;
  const card = await createEnrolmentCard(ed25519Signer("x"), { name: "X", role: "trustee" });
  const online = ed25519Signer("s").publicKey;
  const authorityCard = encodeAuthorityCard({ threshold: 2, expires: NOW, snapshot: online, timestamp: online });
  const attached = attachBatches({
    head: utf8("head"),
    batches: [{ manifest: utf8("m"), payloads: [utf8("p"), utf8("q")] }],
  });
  const readers: Readonly<Record<string, readonly [Uint8Array, (bytes: Uint8Array) => unknown]>> = {
    root: [authority.root, (bytes) => parseMetadata("root", bytes)],
    "root chain": [authority.root, (bytes) => verifyRootChain({ file: authority.root }, [bytes])],
    "root to sign": [authority.rootSigned, (bytes) => parseSigned("root", bytes)],
    targets: [metadata("1.targets"), (bytes) => parseMetadata("targets", bytes)],
    snapshot: [metadata("1.snapshot"), (bytes) => parseMetadata("snapshot", bytes)],
    timestamp: [metadata("timestamp"), (bytes) => parseMetadata("timestamp", bytes)],
    card: [card.bytes, verifyEnrolmentCard],
    "authority card": [authorityCard, parseAuthorityCard],
    payloads: [
      attached.get("payloads/0.cbor")!,
      (bytes) => detachBatches(new Map([...attached, ["payloads/0.cbor", bytes]])),
    ],
  };
  for (const [name, [good, read]] of Object.entries(readers)) {
    const random = randomFrom(name);
    for (let i = 0; i < 500; i++) {
      const bytes = mutate(good, random);
      try {
        read(bytes);
      } catch (error) {
        assert.ok(error instanceof CodedError, `${name}: ${error instanceof Error ? error.stack : error}`);
      }
    }
  }
});

test(`no flipped bit in a signed file is believed (seed ${seed})`, async () => {
  const authority = await createAuthority();
  const files: Files = new Map();
  await publish(authority, files);
  const targetFiles = new Map<string, Uint8Array>();
  for (const [name, bytes] of files) {
    const found = /^tuf\/targets\/(.*\/)[0-9a-f]{64}\.(.*)$/.exec(name);
    if (found) targetFiles.set(found[1]! + found[2]!, bytes);
  }
  const good = {
    pinned: { file: authority.root, authority: authority.authority },
    roots: [],
    targets: files.get("tuf/metadata/1.targets.json")!,
    batches: files.get("tuf/metadata/1.batches.json")!,
    snapshot: files.get("tuf/metadata/1.snapshot.json")!,
    timestamp: files.get("tuf/metadata/timestamp.json")!,
    targetFiles,
  };
  const state = verifyTrust(good, NOW);
  const random = randomFrom("flip");
  const parts = ["targets", "batches", "snapshot", "timestamp", "root", ...targetFiles.keys()];
  for (let i = 0; i < 600; i++) {
    const part = parts[i % parts.length]!;
    const flip = (bytes: Uint8Array) => {
      const out = new Uint8Array(bytes);
      out[random(out.length)]! ^= 1 << random(8);
      return out;
    };
    const changed =
      part === "root"
        ? { ...good, pinned: { ...good.pinned, file: flip(good.pinned.file) } }
        : targetFiles.has(part)
          ? { ...good, targetFiles: new Map([...targetFiles, [part, flip(targetFiles.get(part)!)]]) }
          : { ...good, [part]: flip(good[part as "targets"]) };
    let survived: ReturnType<typeof verifyTrust>;
    try {
      survived = verifyTrust(changed, NOW);
    } catch (error) {
      assert.ok(error instanceof CodedError, String(error));
      continue;
    }
    // A flip survives only where it changes nothing that was signed: in one signature more than needed.
    assert.deepEqual(survived.ids, state.ids, part);
    assert.ok(equalBytes(survived.headBytes, state.headBytes));
  }
  assert.throws(() => verifyTrust(good, NOW + 40 * DAY), CodedError);
});
