/**
 * `audit-authority`: `via audit all` over an authority with a million tokens, its time, its memory and the size of a
 * proof; and what it says when one bit anywhere is another one.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { formatNote, noteVerifier, parseNote, signNote } from "@viafabric/schemas";
import { LOG, seededSigner } from "@viafabric/test/authority";
import { formatProof, parseProof, verifyProof, witnessPolicy } from "@viafabric/transparency-log";
import { type Figure, figureOf, seeded } from "./figure.ts";
import { hashingAlone, TOKENS } from "./log-load.ts";
import { inFolder, runNode } from "./run.ts";

const BENCH = "audit-authority";
const SEED = 5;
const MB = 1_000_000;
const GENERATOR = fileURLToPath(new URL("../../auditor/dist/authority-testkit.js", import.meta.url));
const AUDIT = fileURLToPath(new URL("../../auditor/dist/main.js", import.meta.url));

/** In one file of each kind one bit is flipped. */
const KINDS: readonly RegExp[] = [
  /^log\/checkpoint$/,
  /^log\/tile\/0\//,
  /^log\/tile\/[12]\//,
  /^log\/tile\/entries\//,
  /^batch\/\d+\/manifest\.cbor$/,
  /^batch\/\d+\/leaves\.bin$/,
  /^batch\/\d+\/tokens\.bin$/,
  /^batch\/\d+\/log\.proof$/,
  /^tuf\/metadata\/\d+\.(root|targets|batches)\.json$/,
  /^tuf\/targets\//,
  /^revocation\/e\//,
  /^revocation\/[012]\//,
];

interface Audit {
  readonly verdict: "verified" | "refused";
  readonly seconds: number;
  readonly counts: { readonly token: number };
  readonly findings: readonly { readonly code: string; readonly message: string }[];
  readonly findingsTotal: number;
}

export async function* auditAuthority(): AsyncGenerator<Figure> {
  yield* await inFolder(async (home) => {
    await runNode([GENERATOR, home, String(TOKENS)]);
    return [...(await whole(home)), ...(await flips(home))];
  });
}

async function whole(home: string): Promise<Figure[]> {
  const floor = hashingAlone();
  const { report, rssBytes } = await audit(home);
  if (report.verdict !== "verified" || report.counts.token !== TOKENS) throw new Error(JSON.stringify(report.findings));
  const common = { bench: BENCH, n: TOKENS } as const;
  return [
    figureOf({
      ...common,
      figure: "seconds",
      value: report.seconds,
      floor,
      note: "via audit all over a folder: every entry, decision, statement and file; floor: the hashing alone, once",
    }),
    figureOf({
      ...common,
      figure: "rss-mb",
      value: rssBytes / MB,
      atMost: 300,
      note: "the most the audit's process ever took",
    }),
    ...(await proofs(await readFile(path.join(home, "public", "batch", "9", "log.proof")))),
  ];
}

/** Time of the cosignatures; any is as long. */
const COSIGNED = 1_800_000_000;

/**
 * The proof of the last batch in three sizes, each cosigned and verified under a policy that asks for those witnesses.
 * The goal speaks of what a log must hand out: a C2SP tlog-proof with one log line and one cosignature. The leaf as
 * `extra`, which a bundle carries for its reader, and a second witness are choices of an authority on top of it.
 */
async function proofs(published: Uint8Array): Promise<Figure[]> {
  const measure = async (figure: string, witnesses: number, withLeaf: boolean, atMost?: number) => {
    const bytes = await cosigned(published, witnesses, withLeaf);
    const parts = [withLeaf ? ["the batch leaf"] : [], `${parseProof(bytes).hashes.length} hashes`, "one log line"];
    const note = `tlog-proof of the last batch: ${parts.flat().join(", ")}, cosignatures: ${witnesses}`;
    const goal = atMost === undefined ? {} : { atMost };
    return figureOf({ bench: BENCH, figure, value: bytes.length, n: TOKENS, note, ...goal });
  };
  return [
    await measure("proof-bytes", 1, false, 1300),
    await measure("proof-bytes-bundle", 0, true),
    await measure("proof-bytes-bundle-one-witness", 1, true),
    await measure("proof-bytes-bundle-two-witnesses", 2, true),
  ];
}

async function cosigned(published: Uint8Array, witnesses: number, withLeaf: boolean): Promise<Uint8Array> {
  const { extra: leaf, index, hashes, checkpoint } = parseProof(published);
  const { text, signatures } = parseNote(checkpoint);
  const signers = Array.from({ length: witnesses }, (_, i) => {
    const name = `w${i + 1}`;
    const signer = seededSigner(name);
    return { name, signer, verifier: noteVerifier(`witness.example/${name}`, signer.publicKey, 4) };
  });
  const lines = signers.map(({ signer, verifier }) => signNote(text, verifier.name, signer, COSIGNED));
  const note = formatNote({ text, signatures: [...signatures, ...(await Promise.all(lines))] });
  const bytes = formatProof({ ...(withLeaf && { extra: leaf! }), index, hashes, checkpoint: note });
  const log = { verifier: noteVerifier(signatures[0]!.name, LOG.publicKey) };
  verifyProof(witnessPolicy(log, { witnesses: signers, quorum: witnesses }), leaf!, bytes);
  return bytes;
}

/** Each time the value is the exit code, which must be that of a refusal. */
async function flips(home: string): Promise<Figure[]> {
  const random = seeded(SEED);
  const folder = path.join(home, "public");
  const names = (await listed(folder)).toSorted();
  const figures: Figure[] = [];
  for (const kind of KINDS) {
    const candidates = names.filter((name) => kind.test(name));
    const name = candidates[Math.floor(random() * candidates.length)]!;
    const file = path.join(folder, name);
    const good = await readFile(file);
    const [at, bit] = [Math.floor(random() * good.length), Math.floor(random() * 8)];
    const bad = Buffer.from(good);
    bad[at]! ^= 1 << bit;
    await writeFile(file, bad);
    const { report, code } = await audit(home);
    await writeFile(file, good);
    const codes = [...new Set(report.findings.map((finding) => finding.code))].join(", ");
    const note = `bit ${bit} of byte ${at} of ${good.length}: ${report.findingsTotal} × ${codes}: ${report.findings[0]?.message}`;
    figures.push(
      figureOf({ bench: BENCH, figure: `flip ${name}`, value: code, atLeast: 1, atMost: 1, n: 1, seed: SEED, note }),
    );
  }
  return figures;
}

async function audit(home: string): Promise<{ report: Audit; rssBytes: number; code: number }> {
  const options = ["--root", path.join(home, "root.json"), "--json"];
  const ran = await runNode([AUDIT, "all", path.join(home, "public"), ...options], [0, 1]);
  return { ...ran, report: JSON.parse(ran.output) as Audit };
}

/** Paths below the folder, with forward slashes. */
async function listed(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
}
