/**
 * One trustee's answer to one proposal, as a file that anybody may carry.
 *
 *     {"authority":"…","decision":"approve","id":"…","keyid":"…","signature":"…"}           one line of canonical JSON
 *     {"authority":"…","decision":"reject","id":"…","keyid":"…","reason":"…","signature":"…"}
 *
 * It proves itself: an approval is the TUF signature over the proposal's bytes, a rejection is signed over authority,
 * id and reason. So it does not matter who brings it to the vault, or when, as long as the proposal is open; whoever
 * does signs the request with a key of their own, which says nothing about the proposal. The line is short enough for
 * a QR code.
 */
import { concat, equalBytes, FormatError, formatHex, parseHex, utf8 } from "@viafabric/schemas";
import { canonicalJson, type JsonObject, parseJson, type Rejection, type TufSignature } from "@viafabric/tuf";

export const DECISION_BYTES_MAX = 4096;

export type CarriedDecision = { readonly authority: Uint8Array; readonly id: Uint8Array } & (
  | { readonly kind: "approve"; readonly approval: TufSignature }
  | { readonly kind: "reject"; readonly rejection: Rejection }
);

export function encodeDecisionFile(decision: CarriedDecision): Uint8Array {
  const common = { authority: formatHex(decision.authority), decision: decision.kind, id: formatHex(decision.id) };
  if (decision.kind === "approve") {
    const { keyid, sig } = decision.approval;
    return line({ ...common, keyid, signature: formatHex(sig) });
  }
  const { keyid, reason, signature } = decision.rejection;
  return line({ ...common, keyid, reason, signature: formatHex(signature) });
}

/** Shape only. @throws FormatError ERR_CARRIED */
export function parseDecisionFile(bytes: Uint8Array): CarriedDecision {
  try {
    if (bytes.length > DECISION_BYTES_MAX) throw new FormatError("ERR_LENGTH", `${bytes.length} bytes`);
    const fields = parseJson(bytes) as JsonObject;
    const text = (name: string): string => {
      const value = typeof fields === "object" && fields !== null && Object.hasOwn(fields, name) ? fields[name] : "";
      return typeof value === "string" ? value : "";
    };
    const common = { authority: parseHex(text("authority"), 32), id: parseHex(text("id"), 32) };
    const keyid = formatHex(parseHex(text("keyid"), 32));
    const signature = parseHex(text("signature"));
    const decision: CarriedDecision =
      text("decision") === "approve"
        ? { ...common, kind: "approve", approval: { keyid, sig: signature } }
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
