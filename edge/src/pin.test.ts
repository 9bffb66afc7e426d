import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CodedError, ed25519PublicKey, formatHex, formatWords, type Signer, sha256 } from "@viafabric/schemas";
import { assemble, buildRoot, parseClaim, signMetadata, verifyClaims } from "@viafabric/tuf";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

function newSigner(): Signer {
  const { privateKey } = generateKeyPairSync("ed25519");
  const key = createPrivateKey(privateKey.export({ type: "pkcs8", format: "pem" }));
  const raw = new Uint8Array(Buffer.from(String(key.export({ format: "jwk" }).x), "base64url"));
  return { publicKey: ed25519PublicKey(raw), sign: async (message) => new Uint8Array(sign(null, message, key)) };
}

async function newRoot(): Promise<{ file: Uint8Array; authority: Uint8Array }> {
  const people = [newSigner(), newSigner(), newSigner()];
  const quorum = { keys: people.map(({ publicKey }) => publicKey), threshold: 2 };
  const online = () => ({ keys: [newSigner().publicKey], threshold: 1 });
  const roles = { root: quorum, targets: quorum, snapshot: online(), timestamp: online() };
  const signed = buildRoot({ version: 1, expires: Math.floor(Date.now() / 1000) + 86_400, roles });
  const signatures = await Promise.all(people.map((person) => signMetadata(person, signed)));
  return { file: assemble(signed, signatures), authority: sha256(signed) };
}

function via(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...args], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
    child.stdin?.end();
  });
}

test("a channel names the authority in hex or in words, and says who it is", () => {
  const authority = sha256(new Uint8Array([1]));
  for (const digest of [formatHex(authority), formatWords(authority)])
    assert.deepEqual(parseClaim(`paper=${digest}`), { channel: "paper", authority });
  const line = `v=viafabric1 authority=${formatHex(authority)} root=${"11".repeat(32)}`;
  const root = new Uint8Array(32).fill(0x11);
  assert.deepEqual(parseClaim(`dns=${line}`), { channel: "dns", authority, root });
  const dug = line
    .split(" ")
    .map((word) => `"${word} "`)
    .join(" ");
  assert.deepEqual(parseClaim(`dns=${dug.replace(/ "$/, '"')}`), { channel: "dns", authority, root });
  const whole = parseClaim(`dns=${line} policy=${"22".repeat(32)}`);
  assert.deepEqual(whole, { channel: "dns", authority, root, policy: new Uint8Array(32).fill(0x22) });
  for (const text of [`dns=${line} policy=`, `dns=${line} more=1`, `dns=${line.replace("1 ", "2 ")}`])
    assert.throws(() => parseClaim(text), refusedWith("ERR_USAGE"), text);
  for (const text of ["", "paper", "paper=", "=00", `=${formatHex(authority)}`, "paper=abc", "paper=zoo zoo"])
    assert.throws(() => parseClaim(text), refusedWith("ERR_USAGE"), text);
});

test("two different channels must name this very authority, and may name its file and its policies", () => {
  const [authority, other, root, policy] = [1, 2, 3, 4].map((n) => sha256(new Uint8Array([n]))) as Uint8Array[];
  const claim = (channel: string, more: object = {}) => ({ channel, authority: authority!, ...more });
  const verify = (...claims: readonly Parameters<typeof verifyClaims>[2][number][]) =>
    verifyClaims(authority!, root!, claims);
  assert.equal(verify(claim("paper"), claim("dns")), undefined);
  assert.equal(verify(claim("paper"), claim("dns"), claim("phone")), undefined);
  assert.equal(verify(claim("paper"), claim("dns", { root, policy })), policy);
  for (const claims of [[], [claim("paper")], [claim("paper"), claim("Paper")]])
    assert.throws(() => verify(...claims), refusedWith("ERR_USAGE"));
  const strange = { authority: other! };
  for (const claims of [
    [claim("paper"), claim("dns", strange)],
    [claim("paper", strange), claim("dns", strange)],
    [claim("paper"), claim("dns"), claim("phone", strange)],
    [claim("paper"), claim("dns", { root: other })],
    [claim("paper", { root, policy }), claim("dns", { root, policy: other })],
  ])
    assert.throws(() => verify(...claims), refusedWith("ERR_AUTHORITY"));
});

test("a root from an untrusted source is pinned with two channels and a yes, and otherwise nothing is", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "via-pin-"));
  t.after(() => rm(folder, { recursive: true }));
  const [{ file, authority }, other] = [await newRoot(), await newRoot()];
  await mkdir(path.join(folder, "root"));
  await writeFile(path.join(folder, "root", "1.root.json"), file);
  const home = path.join(folder, "node");
  const init = (...args: readonly string[]) => via("init", "--home", home, ...args);
  const named = (channel: string, hash = authority) => ["--digest-from", `${channel}=${formatHex(hash)}`];
  const untrusted = ["--root-from", folder];
  const refusals: Readonly<Record<string, readonly [number, RegExp, readonly string[]]>> = {
    "no root": [2, /ERR_USAGE/, ["--yes"]],
    "two roots": [2, /ERR_USAGE/, ["--root", "x", ...untrusted, "--yes"]],
    "no channel": [2, /ERR_USAGE/, [...untrusted, "--yes"]],
    "one channel": [2, /ERR_USAGE/, [...untrusted, ...named("paper"), "--yes"]],
    "one channel twice": [2, /ERR_USAGE/, [...untrusted, ...named("paper"), ...named("paper"), "--yes"]],
    "channels that differ": [
      1,
      /ERR_AUTHORITY/,
      [...untrusted, ...named("paper"), ...named("dns", other.authority), "--yes"],
    ],
    "another root": [
      1,
      /ERR_AUTHORITY/,
      [...untrusted, ...named("a", other.authority), ...named("b", other.authority), "--yes"],
    ],
    "nobody said yes": [4, /ERR_CONFIRMATION/, [...untrusted, ...named("paper"), ...named("dns")]],
    "nobody said yes, with --json": [
      4,
      /ERR_CONFIRMATION/,
      ["--json", ...untrusted, ...named("paper"), ...named("dns")],
    ],
  };
  for (const [what, [code, message, args]] of Object.entries(refusals)) {
    const refused = await init(...args);
    assert.equal(refused.code, code, `${what}: ${refused.err}`);
    assert.match(refused.err, message, what);
    assert.ok(!existsSync(home), `${what}: a home was made`);
  }
  const pinned = await init("--json", ...untrusted, ...named("paper"), ...named("dns"), "--yes");
  assert.equal(pinned.code, 0, pinned.err);
  assert.deepEqual(JSON.parse(pinned.out).channels, ["paper", "dns"]);
});
