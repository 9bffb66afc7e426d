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
  /** Of the policy lineage: what every batch and every token names as its policy. */
  readonly lineage: Digest | undefined;
  readonly trustees: { readonly threshold: number; readonly kids: readonly string[] };
  /** All of it in one line: for a file, a message, a TXT record, and `via node init --digest-from`. */
  readonly pin: string;
  /** Whose zone holds the record. */
  readonly domain: string;
  /** Line of a zone file. */
  readonly dns: string;
  /** Unix seconds. */
  readonly printed: number;
}

const WORDS_PER_LINE = 6;

/** @param rootFile root v1, verified. @param domain whose zone will hold the line. @param now unix seconds */
export function sheetOf(rootFile: Uint8Array, trust: TrustedState, domain: string, now: number): Sheet {
  const [authority, root] = [digestOf(trust.authority), digestOf(sha256(rootFile))];
  const lineage = trust.policy && digestOf(trust.policy.lineage);
  // One string of a TXT record holds 255 bytes: three digests fit.
  const pin = [
    "v=viafabric1",
    `authority=${authority.hex}`,
    `root=${root.hex}`,
    ...(lineage ? [`policy=${lineage.hex}`] : []),
  ].join(" ");
  return {
    authority,
    root,
    lineage,
    trustees: {
      threshold: trust.root.roles.root.threshold,
      kids: trust.root.roles.root.keys.map(({ kid }) => formatHex(kid)),
    },
    pin,
    domain,
    dns: `_viafabric.${domain}. IN TXT "${pin}"`,
    printed: now,
  };
}

function digestOf(hash: Uint8Array): Digest {
  return { hex: formatHex(hash), words: formatWords(hash) };
}

/** Markdown that reads well as plain text. */
export function formatSheet({ authority, root, lineage, trustees, pin, domain, printed }: Sheet): string {
  const lines = [
    "# Root of an authority",
    "",
    `Printed ${dayOf(printed)}. Keep it where no server can change it. Whoever installs a node compares the authority`,
    "below, whole, with what the node shows.",
    "",
    ...section("Authority", "It never changes, whatever keys rotate.", authority),
    ...section("File `1.root.json`", "What `sha256sum` says of the file.", root),
    ...(lineage
      ? section("Policy lineage", "What every token names as its policy, whatever policies change.", lineage)
      : []),
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
    ...zoneLines(domain, pin).map((line) => `    ${line}`),
    "",
    "## Installing a node",
    "",
    "With the root file from a hand you trust, compare the words:",
    "",
    "    via node init --root 1.root.json",
    "",
    "With a root file from anywhere, name what two channels gave: the authority in hex or in words, or the whole text of",
    "the DNS record, which pins the policy lineage as well.",
    "",
    "    via node init --root-from https://MIRROR/public \\",
    '      --digest-from paper="24 words" --digest-from dns="v=viafabric1 …"',
  ];
  return `${lines.join("\n")}\n`;
}

/** The same record in lines that fit a page: a zone file joins the strings between parentheses. */
function zoneLines(domain: string, pin: string): readonly string[] {
  const words = pin.split(" ");
  return [
    `_viafabric.${domain}. IN TXT (`,
    ...words.map((word, i) => `    "${word}${i < words.length - 1 ? " " : ""}"`),
    ")",
  ];
}

function section(title: string, about: string, { hex, words }: Digest): readonly string[] {
  const list = words.split(" ").map((word, i) => `${String(i + 1).padStart(2)} ${word.padEnd(8)}`);
  const rows: string[] = [];
  for (let at = 0; at < list.length; at += WORDS_PER_LINE)
    rows.push(`    ${list.slice(at, at + WORDS_PER_LINE).join("  ")}`.trimEnd());
  return [`## ${title}`, "", about, "", `    ${hex}`, "", ...rows, ""];
}
