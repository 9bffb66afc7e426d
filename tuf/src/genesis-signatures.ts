/**
 * What one trustee signs in the first meeting: root v1, targets v1 and batches v1, in one small file.
 *
 *     {"batches":"…","keyid":"…","root":"…","targets":"…"}   one line of canonical JSON, signatures in hex
 *
 * A file per trustee, because three people with three sticks must not need to merge anything. The signatures are
 * ordinary TUF signatures; which of them count is decided by the threshold, later.
 */
import { concat, equalBytes, FormatError, formatHex, parseHex, type Signer, utf8 } from "@viafabric/schemas";
import { canonicalJson, parseJson } from "./canonical.ts";
import { JsonFields } from "./fields.ts";
import { keyId, signMetadata, type TufSignature } from "./keys.ts";

export const GENESIS_ROLES = ["root", "targets", "batches"] as const;
export type GenesisRole = (typeof GENESIS_ROLES)[number];

/** The canonical signed parts. */
export type GenesisParts = Readonly<Record<GenesisRole, Uint8Array>>;
export type GenesisSignatures = Readonly<Record<GenesisRole, TufSignature>>;

export const GENESIS_SIGNATURES_BYTES_MAX = 2048;
/** DER of a P-256 signature in hex. */
const SIGNATURE_LENGTH_MAX = 2 * 72;

/** Signs all three. Whoever calls this has shown the words of the authority to a person first. */
export async function signGenesis(signer: Signer, parts: GenesisParts): Promise<Uint8Array> {
  const hex = async (role: GenesisRole) => formatHex((await signMetadata(signer, parts[role])).sig);
  return lineOf(keyId(signer.publicKey), await hex("root"), await hex("targets"), await hex("batches"));
}

/** Shape only. @throws FormatError ERR_METADATA, ERR_HEX, ERR_JSON */
export function parseGenesisSignatures(bytes: Uint8Array): GenesisSignatures {
  if (bytes.length > GENESIS_SIGNATURES_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new JsonFields(parseJson(bytes), "genesis signatures", ["keyid", ...GENESIS_ROLES]);
  const keyid = formatHex(parseHex(fields.text("keyid", 64), 32));
  const sig = (role: GenesisRole): TufSignature => ({ keyid, sig: parseHex(fields.text(role, SIGNATURE_LENGTH_MAX)) });
  const signatures = { root: sig("root"), targets: sig("targets"), batches: sig("batches") };
  const [root, targets, batches] = GENESIS_ROLES.map((role) => formatHex(signatures[role].sig));
  if (!equalBytes(bytes, lineOf(keyid, root!, targets!, batches!))) throw wrong("another spelling than the one line");
  return signatures;
}

function lineOf(keyid: string, root: string, targets: string, batches: string): Uint8Array {
  return concat(canonicalJson({ batches, keyid, root, targets }), utf8("\n"));
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_METADATA", `not a trustee's genesis signatures: ${reason}`);
}
