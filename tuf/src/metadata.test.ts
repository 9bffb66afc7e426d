import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata, MetadataKind } from "@tufjs/models";
import { FormatError, parseUtf8, utf8, VerificationError } from "@viafabric/schemas";
import { createAuthority, DAY, ed25519Signer, NOW, p256Signer, roleOf, signed } from "./fixtures.test.ts";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRoot,
  canonicalJson,
  formatExpires,
  type Json,
  type JsonObject,
  keyId,
  keyJson,
  metadataSigners,
  parseMetadata,
  parseSigned,
  signMetadata,
  verifyRole,
  verifyRootChain,
} from "./index.ts";

const malformed = (error: unknown) => error instanceof FormatError && error.code === "ERR_METADATA";
const refusedWith = (code: string) => (error: unknown) => error instanceof VerificationError && error.code === code;

/** The signed part, changed as JSON and put under the same signatures. */
function edited(file: Uint8Array, change: (signed: Record<string, Json>) => void): Uint8Array {
  const document = JSON.parse(parseUtf8(file)) as { signed: Record<string, Json> };
  change(document.signed);
  return utf8(JSON.stringify(document));
}

test("what we sign, the TUF models of others compute to the same bytes", async () => {
  const mixed = [ed25519Signer("a"), p256Signer(), p256Signer(), ed25519Signer("b"), ed25519Signer("c")];
  const { root, rootSigned, trustees } = await createAuthority(mixed);
  const theirs = Metadata.fromJSON(MetadataKind.Root, JSON.parse(parseUtf8(root)));
  theirs.verifyDelegate("root", theirs);
  const ours = parseMetadata("root", root);
  assert.deepEqual(ours.signedBytes, rootSigned);
  assert.deepEqual(parseSigned("root", rootSigned), ours.signed);
  assert.equal(verifyRole(ours.signed.roles.root, "root", ours).length, 3);
  const keys = Object.keys(theirs.signed.keys);
  for (const trustee of trustees) assert.ok(keys.includes(keyId(trustee.publicKey)));
});

test("a threshold counts distinct public keys, whoever lists them and however often they sign", async () => {
  const [a, b] = [ed25519Signer("a"), ed25519Signer("b")];
  const bytes = buildBatches({ version: 1, expires: NOW + DAY, head: utf8("head") });
  const file = await signed(bytes, [a]);
  const metadata = parseMetadata("targets", file);
  assert.equal(metadataSigners(roleOf([a, a, b], 2), metadata).length, 1);
  assert.throws(() => verifyRole(roleOf([a, a, b], 2), "batches", metadata), refusedWith("ERR_THRESHOLD"));
  for (const threshold of [0, 0.5, Number.NaN, -1])
    assert.throws(() => verifyRole(roleOf([a], threshold), "batches", metadata), refusedWith("ERR_THRESHOLD"));
  assert.throws(() => verifyRole({ keys: [], threshold: 1 }, "batches", metadata), refusedWith("ERR_THRESHOLD"));
  const twice = [await signMetadata(a, bytes), await signMetadata(a, bytes)];
  assert.throws(() => parseMetadata("targets", assemble(bytes, twice)), malformed);
});

test("one key under two ids is refused before anything is counted", async () => {
  const { root } = await createAuthority();
  const file = edited(root, (signed) => {
    const keys = signed.keys as Record<string, JsonObject>;
    const [id, key] = Object.entries(keys)[0]!;
    const alias = `${id.slice(0, -1)}${id.endsWith("0") ? "1" : "0"}`;
    keys[alias] = key;
    ((signed.roles as Record<string, Record<string, string[]>>).root!.keyids as string[]).push(alias);
  });
  assert.throws(() => parseMetadata("root", file), malformed);
});

test("every spelling that clients read differently is refused", async () => {
  const { root } = await createAuthority();
  const role = (signed: Record<string, Json>, name: string) =>
    (signed.roles as Record<string, Record<string, Json>>)[name]!;
  const changes: Readonly<Record<string, (signed: Record<string, Json>) => unknown>> = {
    "milliseconds in a date": (s) => Object.assign(s, { expires: "2027-01-01T00:00:00.000Z" }),
    "an offset in a date": (s) => Object.assign(s, { expires: "2027-01-01T00:00:00+00:00" }),
    "a day that does not exist": (s) => Object.assign(s, { expires: "2027-02-30T00:00:00Z" }),
    "no consistent snapshots": (s) => Object.assign(s, { consistent_snapshot: false }),
    "missing consistent snapshots": (s) => Reflect.deleteProperty(s, "consistent_snapshot"),
    "version 0": (s) => Object.assign(s, { version: 0 }),
    "a fractional version": (s) => Object.assign(s, { version: 1.5 }),
    "a textual version": (s) => Object.assign(s, { version: "1" }),
    "another specification": (s) => Object.assign(s, { spec_version: "2.0.0" }),
    "an unknown member": (s) => Object.assign(s, { "x-custom": 1 }),
    "another type": (s) => Object.assign(s, { _type: "targets" }),
    "a member outside ASCII": (s) => Object.assign(s, { "schl\u00fcssel": 1 }),
    "a role with a numeric name": (s) => Object.assign(s.roles as JsonObject, { "2026": role(s, "root") }),
    "a threshold of 0": (s) => Object.assign(role(s, "root"), { threshold: 0 }),
    "a threshold nobody can reach": (s) => Object.assign(role(s, "root"), { threshold: 6 }),
    "a fractional threshold": (s) => Object.assign(role(s, "root"), { threshold: 2.5 }),
    "a key id twice in a role": (s) => {
      const ids = role(s, "root").keyids as string[];
      ids[1] = ids[0]!;
    },
    "a key id without a key": (s) => (role(s, "root").keyids as string[]).splice(0, 1, "00".repeat(32)),
    "an unknown key type": (s) => {
      const key = { keytype: "ml-dsa", scheme: "ml-dsa-65", keyval: { public: "00" } };
      (s.keys as Record<string, Json>)["00".repeat(32)] = key;
    },
    "a key in upper case": (s) => {
      const keys = s.keys as Record<string, { keyval: { public: string } }>;
      const key = Object.values(keys)[0]!;
      key.keyval.public = key.keyval.public.toUpperCase();
    },
  };
  for (const [what, change] of Object.entries(changes))
    assert.throws(() => parseMetadata("root", edited(root, change)), malformed, what);
  for (const text of [
    "",
    "[]",
    "null",
    '{"signed":{}}',
    `${"[".repeat(100_000)}`,
    `{"signatures":[],"signed":${"[".repeat(1000)}${"]".repeat(1000)}}`,
  ])
    assert.throws(() => parseMetadata("root", utf8(text)), malformed, text.slice(0, 20));
  assert.throws(() => parseMetadata("root", new Uint8Array(1024 * 1024)), malformed);
});

test("target paths and role names that any client could confuse are refused", async () => {
  const targets = (paths: Record<string, Json>, name = "batches") =>
    canonicalJson({
      _type: "targets",
      spec_version: "1.0.31",
      version: 1,
      expires: formatExpires(NOW),
      targets: paths,
      delegations: {
        keys: { [keyId(ed25519Signer("a").publicKey)]: keyJson(ed25519Signer("a").publicKey) },
        roles: [{ name, keyids: [keyId(ed25519Signer("a").publicKey)], threshold: 1, paths: ["a"], terminating: true }],
      },
    });
  const file = { length: 1, hashes: { sha256: "00".repeat(32) } };
  parseSigned("targets", targets({ "trust/keys.cbor": file }));
  for (const path of ["../a", "a/../b", "/a", "a//b", ".a", "a/.b", "a*", "{a,b}", "", "a/"])
    assert.throws(() => parseSigned("targets", targets({ [path]: file })), malformed, path);
  for (const name of ["2026", "Root", "targets", "a/b", "", "1a"])
    assert.throws(() => parseSigned("targets", targets({}, name)), malformed, name);
  for (const hashes of [{}, { sha512: "00".repeat(64) }, { sha256: "00" }, { sha256: "AA".repeat(32) }])
    assert.throws(() => parseSigned("targets", targets({ a: { length: 1, hashes } })), malformed);
});

test("a root chain needs both thresholds, no gap and no way back", async () => {
  const first = await createAuthority();
  const others = [6, 7, 8, 9, 10].map((i) => ed25519Signer(`trustee ${i}`));
  const second = (version: number) =>
    buildRoot({
      version,
      expires: NOW + 730 * DAY,
      roles: {
        root: roleOf(others, 3),
        targets: roleOf(others, 3),
        snapshot: roleOf([first.snapshot], 1),
        timestamp: roleOf([first.timestamp], 1),
      },
    });
  const pinned = { file: first.root };
  const [old3, new3] = [first.trustees.slice(0, 3), others.slice(0, 3)];
  const good = await signed(second(2), [...old3, ...new3]);
  const chain = verifyRootChain(pinned, [good]);
  assert.equal(chain.root.version, 2);
  assert.deepEqual(chain.authority, first.authority);
  for (const signers of [old3, new3, [...old3.slice(1), ...new3], [...old3, ...new3.slice(1)]]) {
    const file = await signed(second(2), signers);
    assert.throws(() => verifyRootChain(pinned, [file]), refusedWith("ERR_THRESHOLD"));
  }
  const gap = await signed(second(3), [...old3, ...new3]);
  assert.throws(() => verifyRootChain(pinned, [gap]), refusedWith("ERR_ROLLBACK"));
  assert.throws(() => verifyRootChain(pinned, [good, good]), refusedWith("ERR_ROLLBACK"));
  assert.deepEqual(verifyRootChain({ file: good, authority: first.authority }, []).authority, first.authority);
  assert.throws(() => verifyRootChain({ file: good }, []), refusedWith("ERR_AUTHORITY"));
  assert.throws(() => verifyRootChain({ ...pinned, authority: new Uint8Array(32) }, []), refusedWith("ERR_AUTHORITY"));
  assert.throws(() => authorityOf(second(2)), refusedWith("ERR_AUTHORITY"));
});

test("names that every object inherits, and paths that climb, are no targets, roles or members", async () => {
  const batches = await signed(buildBatches({ version: 1, expires: NOW + DAY, head: utf8("head") }), [
    ed25519Signer("a"),
  ]);
  const info = { hashes: { sha256: "00".repeat(32) }, length: 1 };
  const named = (json: string, name: string) => JSON.parse(json.replace("NAME", name)) as Json;
  for (const name of [
    "constructor",
    "__proto__",
    "toString",
    "hasOwnProperty",
    "../x",
    "a/../b",
    "/x",
    ".x",
    "a//b",
    "",
  ]) {
    const listed = edited(batches, (targets) => {
      targets.targets = named(`{"NAME":${JSON.stringify(info)}}`, name);
    });
    assert.throws(() => parseMetadata("targets", listed), malformed, name);
    const delegating = edited(batches, (targets) => {
      const role = { keyids: [], name, paths: ["x"], terminating: true, threshold: 1 };
      targets.delegations = { keys: {}, roles: [role] };
    });
    assert.throws(() => parseMetadata("targets", delegating), malformed, name);
    const member = edited(batches, (targets) => {
      Object.defineProperty(targets, name, { value: info, enumerable: true });
    });
    assert.throws(() => parseMetadata("targets", member), malformed, name);
  }
  // The look-up itself: nothing is listed, so nothing is found.
  const { targets } = parseMetadata("targets", batches).signed;
  for (const name of ["constructor", "__proto__"]) assert.equal(targets.get(name), undefined);
});
