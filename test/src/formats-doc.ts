/**
 * docs/formats.md: every byte layout beside a vector, with the hex taken from test/vectors. `docs-main` writes it, a
 * test compares it, so the page cannot say other bytes than the code makes.
 */
import { readFileSync } from "node:fs";
import { type CborMap, type CborValue, decodeCbor, encodeCbor, formatHex, parseHex } from "@viafabric/schemas";

const vectors = new URL("../vectors/formats/", import.meta.url);
// biome-ignore lint/suspicious/noExplicitAny: vectors are read as anybody else would read them
const file = (name: string): any => JSON.parse(readFileSync(new URL(name, vectors), "utf8"));

interface Named {
  readonly name: string;
  readonly hex: string;
}

function valid(name: string, index = 0): Named {
  return file(name).valid[index];
}

/** Hex in lines that fit a page. */
function block(hex: string): string {
  return ["```", ...(hex.match(/.{1,96}/g) ?? []), "```"].join("\n");
}

/** A layout of fixed lengths, cut along them. */
function fixed(hex: string, parts: readonly (readonly [number, string])[]): string {
  let at = 0;
  const rows = parts.map(([length, meaning]) => {
    const cut = hex.slice(2 * at, 2 * (at + length));
    const row = `| ${at} | ${length} | ${meaning} | \`${cut}\` |`;
    at += length;
    return row;
  });
  if (2 * at !== hex.length) throw new RangeError(`the parts have ${at} bytes, the vector ${hex.length / 2}`);
  return ["| at | bytes | field | vector |", "|--:|--:|---|---|", ...rows].join("\n");
}

/** A CBOR map with integer keys, entry by entry in its own order: key and value as they are encoded. */
function map(hex: string, fields: Readonly<Record<number, string>>): string {
  const entries = [...(decodeCbor(parseHex(hex)) as CborMap)] as readonly (readonly [number, CborValue])[];
  const rows = entries.map(([key, value]) => {
    const meaning = fields[key];
    if (!meaning) throw new RangeError(`key ${key} is not explained`);
    return `| ${key} | ${meaning} | \`${formatHex(encodeCbor(key))}\` \`${formatHex(encodeCbor(value))}\` |`;
  });
  if (entries.length !== Object.keys(fields).length) throw new RangeError("a field is explained that is not there");
  return [`| key | field | vector: key, value (map head \`${hex.slice(0, 2)}\`) |`, "|--:|---|---|", ...rows].join(
    "\n",
  );
}

const MANIFEST: Readonly<Record<number, string>> = {
  1: "version, 1",
  2: "authority",
  3: "seq: 0-based place in the head's tree, never burned",
  4: "first index",
  5: "count, 1 to 100,000",
  6: "root: RFC 6962 root over the batch's token leaves",
  7: "issuer kid",
  8: "iss",
  9: "capability profile",
  10: "credit class",
  11: "quota",
  12: "unit of the quota",
  13: "policy root: hash of the policy lineage root",
  14: "nbf",
  15: "claim_by",
  16: "exp",
  17: "claim profile",
  18: "layout on the tag",
  19: "tag class",
  20: "offline rule: `none`, `provisional`, or the DID of one hub",
  21: "release kids, ascending",
  22: "stations: [kid, first, count], one after the other",
  23: "status URI: `⌊index / 131072⌋` is appended to it",
};

const HEAD: Readonly<Record<number, string>> = {
  1: "version, 1",
  2: "authority",
  3: "size: number of manifests",
  4: "root: RFC 6962 root; leaf data is the 32-byte H(manifest)",
  5: "next free index",
  6: "log: [size, root]",
  7: "floor: [epoch, N, log size, root of plane 0, root of plane 1]",
  8: "issued",
};

const PAYLOAD: Readonly<Record<number, string>> = {
  1: "iss",
  2: "sub: did_subject",
  4: "exp",
  5: "nbf",
  7: "cti: rct_id, 16 random bytes",
  65535: "status: {status_list: {idx: index mod 131072, uri}}",
  [-70001]: "index",
  [-70002]: "batch seq",
  [-70003]: "capability profile",
  [-70004]: "credit class",
  [-70005]: "initial quota",
  [-70006]: "unit",
  [-70007]: "policy root",
  [-70008]: "claim_by",
};

const EVENT: Readonly<Record<number, string>> = {
  1: "version, 1",
  2: "authority",
  3: "action: `suspend`, `revoke`, `reinstate`, `release`",
  4: "ranges: [first, count], ascending",
  5: "reason, at most 200 characters",
  6: "not after: last time to log it",
  7: "undoes: leaf indices, only for `reinstate`",
  8: "nonce, 16 random bytes",
};

const RECEIPT: Readonly<Record<number, string>> = {
  1: "version, 1",
  2: "authority",
  3: "kit id, 16 bytes",
  4: "seq within the kit",
  5: "H(previous receipt), zeros for the first",
  6: "index",
  7: "H(payload)",
  8: "HMAC-SHA-256(uid_key, UID)",
  9: "result: `written` or `void`",
  10: "H(user memory as read back)",
  11: "locked",
  12: "time by the station's clock",
};

const KEY_ENTRY: Readonly<Record<number, string>> = {
  1: "kid: H(SPKI)",
  2: "SPKI, DER",
  3: "purpose: issuer, status, release, station, operator",
  4: "class: hardware, software",
  5: "from",
  6: "until: valid while from ≤ t < until",
};

const RULES: Readonly<Record<number, string>> = {
  1: "version, 1",
  2: "authority",
  3: "thresholds of trustees: suspend, revoke_kit, revoke, reinstate",
  4: "ages by profile: [soft, hard] seconds",
  5: "minimum class by purpose",
};

export function formatsDocument(): string {
  return [
    intro(),
    tokenSection(),
    approvalSection(),
    logSection(),
    bundleSection(),
    trustSection(),
    policySection(),
    stationSection(),
    requestSection(),
    transcriptSection(),
    elsewhere(),
  ].join("\n\n");
}

function intro(): string {
  return `# Formats

The bytes that are signed, logged and published, each beside a vector. The page is generated from
\`test/vectors/formats\` (\`node test/dist/docs-main.js\`), and a test fails when they differ. Every format has invalid vectors
too: neighbours of these bytes, and the code with which a reader must refuse them.

Conventions. CBOR is deterministic (RFC 8949 section 4.2); unknown or missing keys refuse. Integers outside CBOR are
big-endian. H is SHA-256. Times are unix seconds. A **kid** is H(SubjectPublicKeyInfo in DER), 32 bytes. Signatures are 64
bytes: Ed25519 (RFC 8032, strict, no keys of small order), or P-256 as r ‖ s with low S. COSE algorithms are −19 and −9
(RFC 9864). What is neither TUF, COSE nor a signed note is signed over \`viafabric/<type>/v1\` NUL ‖ authority ‖ bytes. The
**authority** is H(canonical signed part of root v1), 32 bytes; in these vectors \`${file("rct.json").authority}\`.`;
}

function tokenSection(): string {
  const { valid: tokens } = file("rct.json");
  const token = tokens[0];
  return `## Token

One token, three spellings, one signature.

### COSE

COSE_Sign1 (RFC 9052), tag 18: protected \`{1: alg, 16: "application/rct+cwt"}\`, unprotected exactly \`{4: kid}\`. The payload is a
CWT claims set:

${map(token.payload, PAYLOAD)}

A did:web subject adds key 8, cnf \`{5: COSE_Key thumbprint}\`. What the issuer key signs (Sig_structure):

${block(token.to_be_signed)}

The whole token, ${token.cose.length / 2} bytes:

${block(token.cose)}

### Compact

What fits an NTAG213, for subjects that are a did:key of an Ed25519 key. With its manifest it expands to exactly the payload
above.

${fixed(token.compact, [
  [1, "version, 1"],
  [4, "authority[0..4]: selects, proves nothing"],
  [16, "rct_id"],
  [32, "subject key"],
  [4, "index"],
  [64, "signature"],
])}

### JSON

[\`rct.schema.json\`](../schemas/json/rct.schema.json), JSON Schema 2020-12. Verified by encoding it as COSE again.

\`\`\`json
${JSON.stringify(token.json, undefined, 2)}
\`\`\`

\`rct_id\` as text is 26 Crockford base-32 characters, \`^[0-7][0-9A-HJKMNP-TV-Z]{25}$\`: \`${token.rct_id}\` is
\`${token.rct_id_text}\`.`;
}

function approvalSection(): string {
  const manifest = valid("manifest.json");
  const head = valid("head.json", 1);
  return `## Manifest

What k trustees approve, once for all tokens of a batch. ${manifest.hex.length / 2} bytes.

${map(manifest.hex, MANIFEST)}

## Head

The TUF target \`batches/head.cbor\`: one root over every manifest ever approved. ${head.hex.length / 2} bytes.

${map(head.hex, HEAD)}`;
}

function logSection(): string {
  const leaf = (index: number): string => valid("leaf.json", index).hex;
  const event = file("event.json").valid[1];
  return `## Log entries

One log holds them all; the first byte tells the type. No entry holds a signature of a token, a DID, a holder's key, a UID or
a time of its own.

### 01 token

${fixed(leaf(0), [
  [1, "type"],
  [8, "index"],
  [32, "H(rct_id)"],
  [32, "H(payload)"],
])}

### 02 batch

Followed at once by its token entries.

${fixed(leaf(1), [
  [1, "type"],
  [4, "seq"],
  [32, "H(manifest)"],
  [32, "H(N.batches.json), N the first version whose head holds seq"],
  [32, "H(tokens.bin), of nothing where there is none"],
])}

### 03 event

\`03\` ‖ CBOR \`[body, [[kid, signature], …]]\`, signatures ascending by kid. The body is signed as type \`event\`:

${map(event.hex, EVENT)}

What each signer signs:

${block(event.to_be_signed)}

The entry, with two signatures:

${block(leaf(2))}

A holder who suspends their own token is logged without a body, \`03\` ‖ CBOR \`[H(evidence ‖ salt), [[index, 1]], "suspend"]\`:

${block(leaf(3))}

### 04 binding

${fixed(leaf(4), [
  [1, "type"],
  [32, "H(rct_id)"],
  [4, "epoch: the binding's number"],
  [32, "H(salt ‖ key thumbprint)"],
])}

### 05 trust

Before the file itself is published.

${fixed(leaf(5), [
  [1, "type"],
  [1, "kind: 1 root, 2 targets, 3 batches, 4 statement, 5 transcript"],
  [4, "version, epoch or number"],
  [32, "H(file)"],
])}`;
}

function bundleSection(): string {
  const { tokens_bin: tokensBin, valid: tokens } = file("rct.json");
  return `## Batch bundle

\`batch/<seq>/\`: \`manifest.cbor\`; \`leaves.bin\`, the 73-byte entries in order; \`tokens.bin\`; \`log.proof\`, a C2SP tlog-proof with
the batch entry as \`extra\`, whose checkpoint covers the tokens too. It is the one file that may be replaced: other witnesses
may count by then.

\`tokens.bin\` has 112 bytes for each token: AES-256-GCM of subject key ‖ signature with the index (u32) as additional data. Key
(32 bytes) and nonce (12) are HKDF-SHA-256 of the rct_id, salt authority, info \`rct/bundle/v1\`. For rct_id
\`${tokens[0].rct_id}\`, index 4:

${block(tokensBin.slice(0, 224))}`;
}

function trustSection(): string {
  const [keys, rules] = file("trust.json").valid as readonly Named[];
  const first = formatHex(encodeCbor((decodeCbor(parseHex(keys!.hex)) as readonly CborMap[])[0]!));
  return `## Trust files

\`trust/keys.cbor\` is an array of maps, ascending by kid. The first entry of the vector:

${map(first, KEY_ENTRY)}

\`trust/rules.cbor\`:

${map(rules!.hex, RULES)}

\`trust/tlog-policy\` is a C2SP tlog-policy. Root, targets, batches, revocations, snapshot and timestamp are TUF metadata,
specification 1.0.31, with consistent snapshots.`;
}

const POLICY: Readonly<Record<number, string>> = {
  1: "version of the format, 1",
  2: "authority",
  3: "lineage: H(policy/lineage.json), the policy_root of every token",
  4: "version of the bundle, from 1",
  5: "H(manifest.cbor of the version before); zeros in version 1",
  6: "root: RFC 6962 root over the entries",
  7: "[[path, H(file), length], …], ascending by path",
};

function policySection(): string {
  const { valid: vectors, leaves } = file("policy.json");
  const profile = vectors.find(({ name }: Named) => name === "profile");
  return `## Policies and profiles

\`policy/lineage.json\` never changes: tokens and manifests carry its hash. \`policy/manifest.cbor\` is the bundle in force,
\`policy/files/<path>\` its files; targets list each of them too, and must agree. 1 to 256 files, 4 MiB together; a path is at most
128 characters in at most eight segments of \`[A-Za-z0-9_-][A-Za-z0-9_.-]*\`, no two paths differ in case alone, and none is a
folder of another. An earlier manifest stays published as \`tuf/targets/policy/<H>.manifest.cbor\`: a client that slept through
versions follows key 5 back to the one it accepted. The second bundle of the vectors:

${map(vectors[1].hex, POLICY)}

Leaf data of an entry is \`viafabric/policy-entry/v1\` NUL ‖ path ‖ H(file) ‖ u64 length:

${block(leaves[0].leaf)}

\`profiles/<id>.json\`, one for each capability profile, has ascending members and no white space
([\`capability-profile.schema.json\`](../schemas/json/capability-profile.schema.json)); its version rises with every change:

\`\`\`json
${Buffer.from(profile.hex, "hex").toString("utf8")}
\`\`\``;
}

function stationSection(): string {
  const receipt = file("receipt.json").valid[0];
  // Sig_structure is [context, protected, external_aad, payload].
  const signed = decodeCbor(parseHex(receipt.to_be_signed)) as readonly CborValue[];
  return `## Receipt

COSE_Sign1 by the station key, protected \`{1: alg, 16: "application/rct-receipt+cbor"}\`, unprotected \`{4: kid}\`. Payload:

${map(formatHex(signed[3] as Uint8Array), RECEIPT)}

The whole receipt, ${receipt.hex.length / 2} bytes:

${block(receipt.hex)}`;
}

function requestSection(): string {
  const [request] = file("request.json").valid;
  const { headers } = request;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return `## Signed request

Every request that changes something carries four headers. Signed as type \`request\`: method, space, path with its query, LF,
time, LF, nonce, LF, hex H(body), LF. A server accepts a nonce once, and a time within ten minutes.

\`\`\`
${request.method} ${request.path}
${lines.join("\n")}

${Buffer.from(request.body, "hex").toString("utf8")}
\`\`\``;
}

function transcriptSection(): string {
  const [transcript] = file("transcript.json").valid;
  return `## Transcript of a key ceremony

\`transcripts/<n>.json\`, n = 1, 2, 3, …: which token holds a key, what it says of it, and a signature by each key. JSON in
one spelling: members in this order, attributes ascending, two spaces, a newline at the end. A key signs, as type
\`transcript\`, the same text with all \`signature\` members left out. \`kid\` and \`words\` are the digest of the public key.
Transcript 1 is of the keys that an authority is made from, and is signed for no authority: 32 zero bytes. A transcript of
class \`hardware\` in which a key is not SENSITIVE, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE and LOCAL, or is EXTRACTABLE, or whose
device names SoftHSM or no module, is refused.

\`\`\`
${Buffer.from(transcript.hex, "hex").toString("utf8").trimEnd()}
\`\`\``;
}

function elsewhere(): string {
  return `## Elsewhere

| what | where it is told |
|---|---|
| status sets, deltas, chunk files (RVX1) | \`revocation/src/container.ts\`, \`revocation/src/rvx1.ts\`, vectors in \`test/vectors/revocation\` |
| status statement | \`revocation/src/statement.ts\`, \`test/vectors/revocation/statement.txt\` |
| tags: layouts, NDEF, TLV | \`nfc/src/layout.ts\`, \`nfc/src/ndef.ts\`; whole memory dumps in \`test/vectors/formats/tag.json\` |
| checkpoints, tiles, proofs, policies | C2SP tlog-checkpoint, tlog-tiles, tlog-proof, tlog-policy, signed-note; \`transparency-log/src\` |
| kits before sealing | \`schemas/src/kit.ts\`, \`test/vectors/formats/kit.json\`; sealed as JWE, ECDH-ES over X25519, A256GCM |
| the first meeting: cards and signature files | \`tuf/src/cards.ts\`, \`tuf/src/genesis-signatures.ts\`, \`vault/src/genesis-folder.ts\` |
`;
}
