/**
 * What the tests of this room start from: trustees with real home folders, keys from names, and a genesis folder as a
 * vault writes it. Holds no tests of its own.
 */
import { createPrivateKey, sign } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ensureFolder, writeFileDurable } from "@viafabric/platform";
import {
  concat,
  ed25519PublicKey,
  encodeHead,
  encodeProfile,
  encodeRules,
  encodeTrustKeys,
  formatHex,
  genesisHead,
  type KeyEntry,
  noteVerifier,
  type Purpose,
  parseHex,
  type Signer,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { formatPolicy } from "@viafabric/transparency-log";
import {
  buildBatches,
  buildTargets,
  createEnrolmentCard,
  encodeAuthorityCard,
  KEYS_PATH,
  LINEAGE_PATH,
  POLICY_PATH,
  profilePath,
  RULES_PATH,
  rootFromCards,
} from "@viafabric/tuf";
import { init } from "./commands.ts";
import { type Home, homeAt } from "./home.ts";

/** The command line has no other clock than the machine's, so the tests agree with it. */
export const NOW = Math.floor(Date.now() / 1000);
export const DAY = 86_400;
export const PASSPHRASE = "correct horse";
export const SECRET = async () => PASSPHRASE;
const TRUSTEES = 3;
export const THRESHOLD = 2;
export const ORIGIN = "vault.example/log";
export const LINEAGE = utf8('{"policy_lineage":1}');

/** The same name gives the same key. */
export function namedSigner(name: string): Signer {
  const key = Buffer.from(concat(parseHex("302e020100300506032b657004220420"), sha256(utf8(name))));
  const privateKey = createPrivateKey({ key, format: "der", type: "pkcs8" });
  const raw = new Uint8Array(Buffer.from(privateKey.export({ format: "jwk" }).x!, "base64url"));
  return { publicKey: ed25519PublicKey(raw), sign: async (message) => new Uint8Array(sign(null, message, privateKey)) };
}

const NAMES = [
  "issuer",
  "status",
  "station",
  "release",
  "operator",
  "log",
  "snapshot",
  "timestamp",
  "revocations",
] as const;
export const KEYS = Object.fromEntries(NAMES.map((name) => [name, namedSigner(name)])) as Record<
  (typeof NAMES)[number],
  Signer
>;

/** Made once for each test file and copied: keys under a passphrase cost a third of a second each. */
let template: Promise<string> | undefined;

export async function removeTemplate(): Promise<void> {
  if (template !== undefined) await rm(await template, { recursive: true });
}

async function makeTemplate(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "trustees-"));
  const genesis = path.join(folder, "genesis");
  const homes = Array.from({ length: TRUSTEES }, (_, i) => homeAt(path.join(folder, "trustees", String(i))));
  const cards = [];
  for (const [i, home] of homes.entries()) cards.push(await init(home, `Trustee ${i}`, PASSPHRASE));
  const station = await createEnrolmentCard(KEYS.station, { name: "Station", role: "station" });
  const release = await createEnrolmentCard(KEYS.release, { name: "Release", role: "release" });
  const authorityCard = {
    threshold: THRESHOLD,
    expires: NOW + 730 * DAY,
    snapshot: KEYS.snapshot.publicKey,
    timestamp: KEYS.timestamp.publicKey,
  };
  const root = rootFromCards(cards, authorityCard);
  const authority = sha256(root);
  const entry = (purpose: Purpose): KeyEntry => {
    return { key: KEYS[purpose].publicKey, purpose, class: "software", from: NOW - DAY, until: NOW + 730 * DAY };
  };
  const logs = [{ verifier: noteVerifier(ORIGIN, KEYS.log.publicKey) }];
  const targetFiles = new Map([
    [KEYS_PATH, encodeTrustKeys((["issuer", "status", "station", "release", "operator"] as const).map(entry))],
    [POLICY_PATH, utf8(formatPolicy({ logs, witnesses: [], groups: [], quorum: undefined }))],
    [
      RULES_PATH,
      encodeRules({
        authority,
        thresholds: { suspend: 1, revokeKit: 2, revoke: THRESHOLD, reinstate: THRESHOLD },
        ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
        classes: new Map(),
      }),
    ],
    [LINEAGE_PATH, LINEAGE],
    [
      profilePath("edge-basic"),
      encodeProfile({ id: "edge-basic", version: 1, title: "Basic", quotas: new Map([["cpu_hours", 10]]) }),
    ],
  ]);
  const quorum = { keys: cards.map(({ key }) => key), threshold: THRESHOLD };
  const headBytes = encodeHead(genesisHead(authority, NOW));
  const files = new Map<string, Uint8Array>([
    ...[...cards, station, release].map((card) => [`cards/${formatHex(card.key.kid)}.json`, card.bytes] as const),
    ["authority-card.json", encodeAuthorityCard(authorityCard)],
    ["root.json", root],
    [
      "targets.json",
      buildTargets({
        version: 1,
        expires: NOW + 365 * DAY,
        targets: targetFiles,
        batches: quorum,
        revocations: { keys: [KEYS.revocations.publicKey], threshold: 1 },
      }),
    ],
    ["batches.json", buildBatches({ version: 1, expires: NOW + 120 * DAY, head: headBytes })],
    ["head.cbor", headBytes],
    ...[...targetFiles].map(([name, bytes]) => [`targets/${name}`, bytes] as const),
  ]);
  for (const [name, bytes] of files) await write(path.join(genesis, name), bytes);
  return folder;
}

/** A folder with trustees and a genesis folder, nothing signed yet. */
export async function withGenesis(
  work: (folder: string, homes: readonly Home[], genesis: string) => Promise<void>,
): Promise<void> {
  template ??= makeTemplate();
  const folder = await mkdtemp(path.join(tmpdir(), "trustee-"));
  try {
    await cp(await template, folder, { recursive: true });
    const homes = Array.from({ length: TRUSTEES }, (_, i) => homeAt(path.join(folder, "trustees", String(i))));
    await work(folder, homes, path.join(folder, "genesis"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Every file below a folder with its hash: what must not change when something is refused. */
export async function fingerprint(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const files = names.map((entry) => path.join(entry.parentPath, entry.name)).sort();
  return new Map(await Promise.all(files.map(async (file) => [file, formatHex(sha256(await read(file)))] as const)));
}

export async function read(file: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(file));
}

export async function write(file: string, bytes: Uint8Array): Promise<void> {
  await ensureFolder(path.dirname(file));
  await writeFileDurable(file, bytes);
}
