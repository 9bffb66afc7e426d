/**
 * The logs that a witness knows, as text: a verifier key a line, or `log <vkey> [<url>]` as in a log policy.
 *
 * A log's published policy is such a list: what it says about witnesses and quorums is for others, and skipped.
 */
import { FormatError, formatHex, type NoteVerifier, parseUtf8, parseVerifierKey, quote } from "@viafabric/schemas";
import type { KnownLog } from "./cosigner.ts";

/** A page somebody wrote; the public lists of logs are far below it. */
export const KNOWN_LOGS_BYTES_MAX = 256 * 1024;
const KNOWN_LOGS_MAX = 1024;
const FOR_OTHERS = ["witness", "group", "quorum"];

/** @throws FormatError ERR_LOG_POLICY, ERR_VKEY */
export function parseKnownLogs(...lists: readonly Uint8Array[]): readonly KnownLog[] {
  const keys = new Map<string, NoteVerifier>();
  for (const list of lists) {
    for (const line of parseUtf8(list).split("\n")) {
      const verifier = verifierIn(line);
      if (verifier) keys.set(`${verifier.name} ${formatHex(verifier.key.raw)}`, verifier);
    }
  }
  const logs = new Map<string, NoteVerifier[]>();
  for (const verifier of keys.values()) logs.set(verifier.name, [...(logs.get(verifier.name) ?? []), verifier]);
  if (logs.size === 0 || logs.size > KNOWN_LOGS_MAX) throw wrong(`${logs.size} logs; it takes 1 to ${KNOWN_LOGS_MAX}`);
  return [...logs].map(([origin, verifiers]) => ({ origin, verifiers }));
}

function verifierIn(line: string): NoteVerifier | undefined {
  const words = line.trim().split(/[ \t]+/);
  if (words[0] === "" || words[0]!.startsWith("#") || FOR_OTHERS.includes(words[0]!)) return undefined;
  const [vkey, url, ...more] = words[0] === "log" ? words.slice(1) : words;
  if (vkey === undefined || more.length > 0 || (url !== undefined && words[0] !== "log"))
    throw wrong(`line ${quote(line)}`);
  const verifier = parseVerifierKey(vkey);
  if (verifier.type !== 1) throw wrong(`a log key is of type 01: ${quote(vkey)}`);
  return verifier;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_LOG_POLICY", `not a list of logs: ${reason}`);
}
