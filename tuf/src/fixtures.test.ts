/** A small authority for tests: real keys, real metadata, published into a map of files. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import {
  concat,
  encodeHead,
  encodeRules,
  encodeTrustKeys,
  formatHex,
  genesisHead,
  type Head,
  parseHex,
  parsePublicKey,
  type Role,
  type Signer,
  sha256,
  utf8,
} from "@viafabric/schemas";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRoot,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
  fileInfo,
  HEAD_PATH,
  KEYS_PATH,
  metadataFileName,
  POLICY_PATH,
  RULES_PATH,
  signMetadata,
  targetFileName,
} from "./index.ts";

export const NOW = 1_800_000_000;
export const DAY = 86_400;

const P256_HALF = BigInt("0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");
const P256_ORDER = BigInt("0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

/** The same name gives the same Ed25519 key. */
export function ed25519Signer(name: string): Signer {
  const seed = sha256(utf8(name));
  const der = Buffer.concat([parseHex("302e020100300506032b657004220420"), seed]);
  return signerOf(createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
}

export function p256Signer(): Signer {
  return signerOf(generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey);
}

function signerOf(privateKey: KeyObject): Signer {
  const { x, y, crv } = privateKey.export({ format: "jwk" });
  const raw = Buffer.concat([Buffer.from(x!, "base64url"), Buffer.from(y ?? "", "base64url")]);
  if (crv === "Ed25519") {
    const publicKey = parsePublicKey(concat(parseHex("302a300506032b6570032100"), raw));
    return { publicKey, sign: async (message) => new Uint8Array(sign(null, message, privateKey)) };
  }
  const prefix = parseHex("3059301306072a8648ce3d020106082a8648ce3d03010703420004");
  const lowS = (signature: Uint8Array): Uint8Array => {
    const s = BigInt(`0x${formatHex(signature.subarray(32))}`);
    const low = s > P256_HALF ? P256_ORDER - s : s;
    return concat(signature.subarray(0, 32), parseHex(low.toString(16).padStart(64, "0")));
  };
  return {
    publicKey: parsePublicKey(concat(prefix, raw)),
    sign: async (message) =>
      lowS(new Uint8Array(sign("sha256", message, { key: privateKey, dsaEncoding: "ieee-p1363" }))),
  };
}

export function roleOf(signers: readonly Signer[], threshold: number): Role {
  return { keys: signers.map((signer) => signer.publicKey), threshold };
}

export async function signed(bytes: Uint8Array, signers: readonly Signer[]): Promise<Uint8Array> {
  return assemble(bytes, await Promise.all(signers.map((signer) => signMetadata(signer, bytes))));
}

export interface TestAuthority {
  readonly trustees: readonly Signer[];
  readonly threshold: number;
  readonly snapshot: Signer;
  readonly timestamp: Signer;
  readonly status: Signer;
  readonly rootSigned: Uint8Array;
  readonly root: Uint8Array;
  readonly authority: Uint8Array;
}

export async function createAuthority(
  trustees: readonly Signer[] = [1, 2, 3, 4, 5].map((i) => ed25519Signer(`trustee ${i}`)),
): Promise<TestAuthority> {
  const threshold = Math.floor(trustees.length / 2) + 1;
  const [snapshot, timestamp, status] = ["snapshot", "timestamp", "status"].map(ed25519Signer) as [
    Signer,
    Signer,
    Signer,
  ];
  const rootSigned = buildRoot({
    version: 1,
    expires: NOW + 730 * DAY,
    roles: {
      root: roleOf(trustees, threshold),
      targets: roleOf(trustees, threshold),
      snapshot: roleOf([snapshot], 1),
      timestamp: roleOf([timestamp], 1),
    },
  });
  const root = await signed(rootSigned, trustees.slice(0, threshold));
  return { trustees, threshold, snapshot, timestamp, status, rootSigned, root, authority: authorityOf(rootSigned) };
}

/** What a publication says; everything may be made wrong. */
export interface Publication {
  readonly targetsVersion: number;
  readonly batchesVersion: number;
  readonly onlineVersion: number;
  readonly head: Head;
  readonly expires: number;
  readonly onlineExpires: number;
  readonly batchesSigners: readonly Signer[];
  readonly policy: string;
  /** Further targets. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Files as any static server would have them, by path. */
export type Files = Map<string, Uint8Array>;

export async function publish(
  authority: TestAuthority,
  files: Files,
  changes: Partial<Publication> = {},
): Promise<Publication> {
  const p: Publication = {
    targetsVersion: 1,
    batchesVersion: 1,
    onlineVersion: 1,
    head: genesisHead(authority.authority, NOW),
    expires: NOW + 100 * DAY,
    onlineExpires: NOW + 30 * DAY,
    batchesSigners: authority.trustees.slice(-authority.threshold),
    policy: "log example.org/log+00000000+AAAA\n",
    files: new Map(),
    ...changes,
  };
  const quorum = roleOf(authority.trustees, authority.threshold);
  const entry = {
    key: authority.status.publicKey,
    purpose: "status",
    class: "software",
    from: 0,
    until: NOW * 2,
  } as const;
  const targetFiles = new Map([
    [KEYS_PATH, encodeTrustKeys([entry])],
    [
      RULES_PATH,
      encodeRules({
        authority: authority.authority,
        thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
        ages: new Map(),
        classes: new Map(),
      }),
    ],
    [POLICY_PATH, utf8(p.policy)],
    ...p.files,
  ]);
  const headBytes = encodeHead(p.head);
  const targets = await signed(
    buildTargets({
      version: p.targetsVersion,
      expires: p.expires,
      targets: targetFiles,
      batches: quorum,
      revocations: roleOf([ed25519Signer("revocations")], 1),
    }),
    authority.trustees.slice(0, authority.threshold),
  );
  const batches = await signed(
    buildBatches({ version: p.batchesVersion, expires: p.expires, head: headBytes }),
    p.batchesSigners,
  );
  const { snapshot, timestamp } = await onlineFiles(authority, p, targets, batches);
  for (const [path, bytes] of [...targetFiles, [HEAD_PATH, headBytes] as const])
    files.set(`tuf/targets/${targetFileName(path, fileInfo(bytes).sha256)}`, bytes);
  const metadata = { root: authority.root, targets, batches, snapshot, timestamp };
  const versions = {
    root: 1,
    targets: p.targetsVersion,
    batches: p.batchesVersion,
    snapshot: p.onlineVersion,
    timestamp: 0,
  };
  for (const [role, bytes] of Object.entries(metadata))
    files.set(`tuf/metadata/${metadataFileName(role, versions[role as keyof typeof versions])}`, bytes);
  return p;
}

/** New snapshot and timestamp, version 1, over the files given. */
export async function publishOnline(
  authority: TestAuthority,
  files: Files,
  targets: Uint8Array,
  batches: Uint8Array,
): Promise<void> {
  const p = { onlineVersion: 1, onlineExpires: NOW + 30 * DAY, targetsVersion: 1, batchesVersion: 1 };
  const { snapshot, timestamp } = await onlineFiles(authority, p, targets, batches);
  files.set("tuf/metadata/1.snapshot.json", snapshot).set("tuf/metadata/timestamp.json", timestamp);
}

async function onlineFiles(
  authority: TestAuthority,
  p: Pick<Publication, "onlineVersion" | "onlineExpires" | "targetsVersion" | "batchesVersion">,
  targets: Uint8Array,
  batches: Uint8Array,
): Promise<{ readonly snapshot: Uint8Array; readonly timestamp: Uint8Array }> {
  const snapshot = await signed(
    buildSnapshot({
      version: p.onlineVersion,
      expires: p.onlineExpires,
      roles: new Map([
        ["targets", { version: p.targetsVersion, file: targets }],
        ["batches", { version: p.batchesVersion, file: batches }],
      ]),
    }),
    [authority.snapshot],
  );
  const timestamp = await signed(
    buildTimestamp({
      version: p.onlineVersion,
      expires: p.onlineExpires,
      snapshot: { version: p.onlineVersion, file: snapshot },
    }),
    [authority.timestamp],
  );
  return { snapshot, timestamp };
}
