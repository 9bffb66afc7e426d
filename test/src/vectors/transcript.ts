/** Transcripts of key ceremonies. */
import {
  type DeviceInfo,
  encodeTranscript,
  formatHex,
  parseHex,
  type TranscriptBody,
  transcriptInput,
  utf8,
} from "@viafabric/schemas";
import { AUTHORITY, describeKeys, invalid, NOW, publicKey, signer, type VectorFile } from "./common.ts";

const DEVICE: DeviceInfo = {
  module: "libhsm.so",
  moduleSha256: "5f".repeat(32),
  cryptoki: "2.40",
  moduleManufacturer: "Example",
  moduleDescription: "PKCS#11 of an example",
  moduleVersion: "1.4",
  tokenLabel: "vault",
  tokenSerial: "0123456789",
  tokenManufacturer: "Example",
  tokenModel: "Model 1",
  hardwareVersion: "1.0",
  firmwareVersion: "3.1",
};
const ATTRIBUTES = new Map(
  Object.entries({ ALWAYS_SENSITIVE: true, EXTRACTABLE: false, LOCAL: true, NEVER_EXTRACTABLE: true, SENSITIVE: true }),
);

export async function transcriptVectors(): Promise<VectorFile> {
  const body: TranscriptBody = {
    authority: AUTHORITY,
    number: 2,
    made: NOW,
    action: "generate",
    tool: "via vault 0.1.0",
    class: "hardware",
    device: DEVICE,
    keys: [{ role: "issuer", id: parseHex("00ff01"), key: publicKey("issuer"), attributes: ATTRIBUTES }],
  };
  const signature = await signer("issuer").sign(transcriptInput(body));
  const bytes = encodeTranscript({ ...body, signatures: [signature] });
  const text = Buffer.from(bytes).toString("utf8");
  const wrong = (name: string, changed: string) => invalid("decodeTranscript", name, utf8(changed), "ERR_TRANSCRIPT");
  return {
    description: "Transcripts of key ceremonies, transcripts/<n>.json, signed by each key that they name.",
    keys: describeKeys("issuer"),
    valid: [
      {
        name: "one key made in a token",
        read: "decodeTranscript",
        hex: formatHex(bytes),
        authority: formatHex(AUTHORITY),
        to_be_signed: formatHex(transcriptInput(body)),
        signature: formatHex(signature),
        signed_by: "issuer",
      },
    ],
    invalid: [
      wrong("nothing", ""),
      wrong("no newline at the end", text.trimEnd()),
      wrong("on one line", JSON.stringify(JSON.parse(text))),
      wrong("a member too many", text.replace('"number"', '"extra": 0,\n  "number"')),
      wrong("a member twice", text.replace('"number": 2', '"number": 2,\n  "number": 2')),
      wrong("another version", text.replace('"transcript": 1', '"transcript": 2')),
      wrong("number 0", text.replace('"number": 2', '"number": 0')),
      wrong("an unknown class", text.replace('"hardware"', '"wooden"')),
      wrong("words of another key", text.replace(/"words": "\w+/, '"words": "zoo')),
      wrong("an attribute that is a number", text.replace('"LOCAL": true', '"LOCAL": 1')),
      wrong("a control character", text.replace("Example", "Exa\\u001bmple")),
    ],
  };
}
