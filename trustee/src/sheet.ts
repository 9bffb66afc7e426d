/**
 * The sheet that takes an authority to its nodes: printed, read aloud, put into DNS. Whoever installs a node compares
 * the authority on it, over a channel that is not the one the root file came by.
 *
 * The authority is SHA-256 of the signed part of root v1 and never changes. The digest of the root file is for
 * `sha256sum`; the same root with other signatures on it has another one. Pure.
 */
import { formatHex, formatWords, sha256 } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { dayOf } from "./policy.ts";

export interface Digest {
  readonly hex: string;
  readonly words: string;
}

export interface Sheet {
  readonly authority: Digest;
  /** Of the file root v1, as published. */
  readonly root: Digest;
  /** Of each policy lineage in targets: what a manifest names as its policy. */
  readonly lineages: readonly (Digest & { readonly path: string })[];
  readonly trustees: { readonly threshold: number; readonly kids: readonly string[] };
  /** Line of a zone file. */
  readonly dns: string;
  /** Unix seconds. */
  readonly printed: number;
}

const WORDS_PER_LINE = 6;

/** @param rootFile root v1, verified. @param domain whose zone will hold the line. @param now unix seconds */
export function sheetOf(rootFile: Uint8Array, trust: TrustedState, domain: string, now: number): Sheet {
  const lineages = [...trust.files].filter(([path]) => path.startsWith("policy/"));
  const authority = formatHex(trust.authority);
  // One string of a TXT record holds 255 bytes: two digests fit.
  const text = [`v=viafabric1`, `authority=${authority}`, `root=${formatHex(sha256(rootFile))}`].join(" ");
  return {
    authority: digestOf(trust.authority),
    root: digestOf(sha256(rootFile)),
    lineages: lineages.map(([path, bytes]) => ({ path, ...digestOf(sha256(bytes)) })),
    trustees: {
      threshold: trust.root.roles.root.threshold,
      kids: trust.root.roles.root.keys.map(({ kid }) => formatHex(kid)),
    },
    dns: `_viafabric.${domain}. IN TXT "${text}"`,
    printed: now,
  };
}

function digestOf(hash: Uint8Array): Digest {
  return { hex: formatHex(hash), words: formatWords(hash) };
}

/** Markdown that reads well as plain text. */
export function formatSheet({ authority, root, lineages, trustees, dns, printed }: Sheet): string {
  const lines = [
    "# Root of an authority",
    "",
    `Printed ${dayOf(printed)}. Keep it where no server can change it. Whoever installs a node compares the authority`,
    "below, whole, with what the node shows.",
    "",
    ...section("Authority", "It never changes, whatever keys rotate.", authority),
    ...section("File `1.root.json`", "What `sha256sum` says of the file.", root),
    ...lineages.flatMap(({ path, ...digest }) =>
      section(`Policy lineage \`${path}\``, "What every batch names as its policy.", digest),
    ),
    "## Trustees",
    "",
    `${trustees.threshold} of these ${trustees.kids.length} keys decide:`,
    "",
    ...trustees.kids.map((kid) => `- \`${kid}\``),
    "",
    "## DNS",
    "",
    "A second channel, for whoever trusts the zone (and its DNSSEC):",
    "",
    `    ${dns}`,
    "",
    "## Installing a node",
    "",
    "With the root file from a hand you trust, compare the words:",
    "",
    "    via node init --root 1.root.json",
    "",
    "With a root file from anywhere, name the authority as two channels gave it:",
    "",
    `    via node init --root 1.root.json --digest-from paper=${authority.hex} --digest-from dns=…`,
  ];
  return `${lines.join("\n")}\n`;
}

function section(title: string, about: string, { hex, words }: Digest): readonly string[] {
  const list = words.split(" ").map((word, i) => `${String(i + 1).padStart(2)} ${word.padEnd(8)}`);
  const rows: string[] = [];
  for (let at = 0; at < list.length; at += WORDS_PER_LINE)
    rows.push(`    ${list.slice(at, at + WORDS_PER_LINE).join("  ")}`.trimEnd());
  return [`## ${title}`, "", about, "", `    ${hex}`, "", ...rows, ""];
}
