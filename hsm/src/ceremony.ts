/**
 * A key ceremony: keys made or looked at in one token, and the transcript of it, signed by each of them.
 *
 * What is written down is read back from the token after the keys are there, never taken from what was asked for.
 */
import {
  type Algorithm,
  encodeTranscript,
  isSoftwareDevice,
  type KeyClass,
  OperationError,
  type PublicKey,
  type TranscriptBody,
  type TranscriptKey,
  transcriptInput,
  verifyTranscript,
} from "@viafabric/schemas";
import type { Hsm } from "./index.ts";

export interface CeremonyKey {
  readonly role: string;
  readonly id: Uint8Array;
  /** To be made; otherwise it must be there already. */
  readonly make?: Algorithm;
  /** What must stand behind the id. */
  readonly expected?: PublicKey;
}

export interface CeremonyRequest extends Pick<TranscriptBody, "authority" | "number" | "made" | "action" | "tool"> {
  /** What the operator calls the token; the other way round is refused. Software where it is known to be. */
  readonly class?: KeyClass;
  readonly keys: readonly CeremonyKey[];
}

/** @returns the transcript, verified. @throws OperationError ERR_HSM_KEY; VerificationError ERR_TRANSCRIPT_REFUSED */
export async function holdCeremony(hsm: Hsm, request: CeremonyRequest): Promise<Uint8Array> {
  const { keys: wanted, class: asked, ...about } = request;
  const device = await hsm.describe();
  const known = isSoftwareDevice(device) ? "software" : "hardware";
  // Before any key is made: nobody shall have to take a token back into use as something else.
  if (asked === "hardware" && known === "software")
    throw new OperationError("ERR_HSM_TOKEN", `${device.tokenModel || "a keystore in files"} is not hardware`);
  const keys: TranscriptKey[] = [];
  const signers = [];
  for (const { role, id, make, expected } of wanted) {
    if (make) await hsm.generateKey(id, `viafabric ${role}`, make);
    const signer = await hsm.signer(id, expected);
    signers.push(signer);
    keys.push({ role, id, key: signer.publicKey, attributes: await hsm.attributes(id) });
  }
  const body: TranscriptBody = { ...about, class: asked ?? known, device, keys };
  const message = transcriptInput(body);
  const signatures: Uint8Array[] = [];
  for (const signer of signers) signatures.push(await signer.sign(message));
  const transcript = encodeTranscript({ ...body, signatures });
  verifyTranscript(transcript, about.authority);
  return transcript;
}
