/** Manifest and head: what trustees approve. */
import {
  BATCH_TOKENS_MAX,
  EMPTY_ROOT,
  encodeHead,
  encodeManifest,
  formatHex,
  genesisHead,
  type Head,
  hashLeaf,
  INDEX_MAX,
  type Manifest,
  manifestHash,
} from "@viafabric/schemas";
import {
  AUTHORITY,
  altered,
  DAY,
  describeKeys,
  filler,
  invalid,
  misspelled,
  NOW,
  publicKey,
  type VectorFile,
} from "./common.ts";

/** Two tokens from index 4 on. `root` is that of the leaves in rct.json. */
export function vectorManifest(changes: Partial<Manifest> = {}): Manifest {
  return {
    authority: AUTHORITY,
    seq: 1,
    first: 4,
    count: 2,
    root: filler("root", 32),
    issuer: publicKey("issuer").kid,
    iss: "https://vault.example",
    profile: "edge-basic",
    creditClass: "compute_hours",
    quota: 100,
    unit: "hour",
    policyRoot: filler("policy lineage", 32),
    nbf: NOW,
    claimBy: NOW + 90 * DAY,
    exp: NOW + 365 * DAY,
    claim: "known",
    layout: "compact",
    tagClass: "ntag213",
    offline: "none",
    releaseKeys: [publicKey("release").kid],
    stations: [{ kid: publicKey("station").kid, first: 4, count: 2 }],
    statusUri: "https://vault.example/revocation/list/",
    ...changes,
  };
}

const READ = "decodeManifest";
const CODE = "ERR_MANIFEST";

export function manifestVectors(): VectorFile {
  const manifest = vectorManifest();
  const bytes = encodeManifest(manifest);
  const two = vectorManifest({
    first: INDEX_MAX - 99,
    count: 100,
    offline: "provisional",
    releaseKeys: [publicKey("release").kid, publicKey("trustee").kid].sort(Buffer.compare),
    stations: [
      { kid: publicKey("station").kid, first: INDEX_MAX - 99, count: 40 },
      { kid: publicKey("holder").kid, first: INDEX_MAX - 59, count: 60 },
    ],
  });
  const station = publicKey("station").kid;
  return {
    description: "Batch manifests. H(manifest) is the leaf data of the head's tree.",
    keys: describeKeys("issuer", "release", "station"),
    valid: [
      { name: "two tokens", hex: formatHex(bytes), hash: formatHex(manifestHash(bytes)) },
      {
        name: "the last indices, two stations",
        hex: formatHex(encodeManifest(two)),
        hash: formatHex(manifestHash(encodeManifest(two))),
      },
    ],
    invalid: [
      ...misspelled(READ, bytes, CODE),
      ...(
        [
          ["another version", { 1: 2 }],
          ["no authority", { 2: undefined }],
          ["an unknown key", { 24: 0 }],
          ["an authority of 31 bytes", { 2: new Uint8Array(31) }],
          ["no tokens", { 5: 0 }],
          ["more tokens than a batch holds", { 5: BATCH_TOKENS_MAX + 1, 22: [] }],
          ["a negative index", { 4: -1 }],
          ["indices beyond 32 bits", { 4: INDEX_MAX, 22: [] }],
          ["a quota in text", { 11: "100" }],
          ["a profile of 65 characters", { 9: "x".repeat(65) }],
          ["a claim window that outlives the token", { 15: NOW + 366 * DAY }],
          ["a start after the claim window", { 14: NOW + 91 * DAY }],
          ["no release key", { 21: [] }],
          ["a release key twice", { 21: [station, station] }],
          ["a station outside the batch", { 22: [[station, 4, 3]] }],
          [
            "stations that overlap",
            {
              22: [
                [station, 4, 2],
                [station, 5, 1],
              ],
            },
          ],
          ["a station without tokens", { 22: [[station, 4, 0]] }],
        ] as const
      ).map(([name, change]) => invalid(READ, name, altered(bytes, change as never), CODE)),
    ],
  };
}

export function headVectors(): VectorFile {
  const genesis = genesisHead(AUTHORITY, NOW);
  const manifest = encodeManifest(vectorManifest());
  const one: Head = {
    ...genesis,
    size: 1,
    root: hashLeaf(manifestHash(manifest)),
    next: 6,
    log: { size: 12, root: filler("log", 32) },
    floor: { epoch: 24, n: 4, logSize: 9, revokedRoot: filler("revoked", 32), suspendedRoot: filler("suspended", 32) },
  };
  const bytes = encodeHead(one);
  const cases = [
    ["another version", { 1: 2 }],
    ["an unknown key", { 9: 0 }],
    ["no floor", { 7: undefined }],
    ["a root of 31 bytes", { 4: new Uint8Array(31) }],
    ["a next index beyond 32 bits", { 5: INDEX_MAX + 2 }],
    ["a log without a root", { 6: [12] }],
    ["a log of three", { 6: [12, EMPTY_ROOT, 0] }],
    ["a log size in text", { 6: ["12", EMPTY_ROOT] }],
    ["a floor of four", { 7: [24, 4, 9, EMPTY_ROOT] }],
    ["a negative epoch", { 7: [-1, 4, 9, EMPTY_ROOT, EMPTY_ROOT] }],
  ] as const;
  return {
    description: "Heads of approved batches: the TUF target batches/head.cbor.",
    valid: [
      { name: "genesis", hex: formatHex(encodeHead(genesis)) },
      { name: "one batch", hex: formatHex(bytes) },
    ],
    invalid: [
      ...misspelled("decodeHead", bytes, "ERR_HEAD"),
      ...cases.map(([name, change]) => invalid("decodeHead", name, altered(bytes, change as never), "ERR_HEAD")),
    ],
  };
}
