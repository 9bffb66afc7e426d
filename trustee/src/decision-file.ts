/**
 * One trustee's answer to one proposal, as a file that anybody may carry.
 *
 *     {"authority":"…","decision":"approve","id":"…","keyid":"…","signature":"…"}           one line of canonical JSON
 *     {"authority":"…","decision":"reject","id":"…","keyid":"…","reason":"…","signature":"…"}
 *
 * The approval of a rotation also has `"parts":{"batches":"…","targets":"…"}`, a signature of each.
 *
 * It proves itself: an approval is the TUF signature over the proposal's bytes, a rejection is signed over authority,
 * id and reason. So it does not matter who brings it to the vault, or when, as long as the proposal is open; whoever
 * does signs the request with a key of their own, which says nothing about the proposal. The line is short enough for
 * a QR code.
 */
import { concat, equalBytes, FormatError, formatHex, parseHex, utf8 } from "@viafabric/schemas";
import { canonicalJson, type JsonObject, parseJson, type Rejection } from "@viafabric/tuf";
import type { Approval } from "./vault-client.ts";

export const DECISION_BYTES_MAX = 4096;

export type CarriedDecision = { readonly authority: Uint8Array; readonly id: Uint8Array } & (
  | { readonly kind: "approve"; readonly approval: Approval }
  | { readonly kind: "reject"; readonly rejection: Rejection }
);

export function encodeDecisionFile(decision: CarriedDecision): Uint8Array {
  const common = { authority: formatHex(decision.authority), decision: decision.kind, id: formatHex(decision.id) };
  if (decision.kind === "approve") {
    const { keyid, sig, parts } = decision.approval;
    const more = parts && { parts: { targets: formatHex(parts.targets), batches: formatHex(parts.batches) } };
    return line({ ...common, keyid, signature: formatHex(sig), ...more });
  }
  const { keyid, reason, signature } = decision.rejection;
  return line({ ...common, keyid, reason, signature: formatHex(signature) });
}

/** Shape only. @throws FormatError ERR_CARRIED */
export function parseDecisionFile(bytes: Uint8Array): CarriedDecision {
  try {
    if (bytes.length > DECISION_BYTES_MAX) throw new FormatError("ERR_LENGTH", `${bytes.length} bytes`);
    const fields = parseJson(bytes) as JsonObject;
    const own = (object: JsonObject, name: string) =>
      typeof object === "object" && object !== null && Object.hasOwn(object, name) ? object[name] : undefined;
    const textIn = (object: JsonObject, name: string): string => {
      const value = own(object, name);
      return typeof value === "string" ? value : "";
    };
    const text = (name: string): string => textIn(fields, name);
    const more = own(fields, "parts") as JsonObject | undefined;
    const parts = more && {
      targets: parseHex(textIn(more, "targets")),
      batches: parseHex(textIn(more, "batches")),
    };
    const common = { authority: parseHex(text("authority"), 32), id: parseHex(text("id"), 32) };
    const keyid = formatHex(parseHex(text("keyid"), 32));
    const signature = parseHex(text("signature"));
    const decision: CarriedDecision =
      text("decision") === "approve"
        ? { ...common, kind: "approve", approval: { keyid, sig: signature, ...(parts && { parts }) } }
        : { ...common, kind: "reject", rejection: { keyid, reason: text("reason"), signature } };
    // One spelling: what is not written the same again is something else.
    if (!equalBytes(encodeDecisionFile(decision), bytes)) throw new FormatError("ERR_JSON", "another spelling");
    return decision;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "";
    throw new FormatError("ERR_CARRIED", `not a trustee's decision: ${reason}`, { cause });
  }
}

function line(object: JsonObject): Uint8Array {
  return concat(canonicalJson(object), utf8("\n"));
}
