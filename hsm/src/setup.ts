/**
 * Making tokens and keys, each in a process of its own (setup-child.ts).
 *
 * So a program that sets up an authority never has a PKCS#11 module or a PIN in its own memory, and the module gets its
 * configuration by an environment that was there before it was loaded.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import {
  type Algorithm,
  formatBase64,
  formatHex,
  OPERATION_CODES,
  type OperationCode,
  OperationError,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
} from "@viafabric/schemas";
import type { CeremonyRequest } from "./ceremony.ts";
import type { KeysReference } from "./index.ts";
import type { SoftHsmRequest, SoftHsmToken } from "./softhsm.ts";

export interface KeyRequest {
  /** CKA_ID: how the key is found again. */
  readonly id: Uint8Array;
  readonly label: string;
  readonly algorithm: Algorithm;
}

/**
 * Makes a SoftHSM2 token with random PINs in a folder of its own.
 * @throws OperationError ERR_HSM_MODULE; ERR_HSM_TOKEN when the folder has a token already
 */
export async function initSoftHsmToken(request: SoftHsmRequest): Promise<SoftHsmToken> {
  return (await run({ init: request })) as SoftHsmToken;
}

/**
 * Generates key pairs in a token, in order.
 * @throws OperationError ERR_HSM_KEY when an id is taken: the keys before it were made
 */
export async function generateKeys(token: KeysReference, keys: readonly KeyRequest[]): Promise<readonly PublicKey[]> {
  const made = await run({ token, keys: keys.map(({ id, ...rest }) => ({ id: formatHex(id), ...rest })) });
  return (made as readonly string[]).map((spki) => parsePublicKey(parseBase64(spki)));
}

/**
 * Makes keys, or looks at those that are there, and writes down what the token says of them.
 * @returns the transcript, signed by each key and verified
 * @throws OperationError ERR_HSM_KEY, ERR_HSM_TOKEN for a class that is not the token's; keys made before stay
 */
export async function performCeremony(token: KeysReference, ceremony: CeremonyRequest): Promise<Uint8Array> {
  const { authority, keys, ...rest } = ceremony;
  const ceremonyText: CeremonyText = {
    ...rest,
    authority: formatHex(authority),
    keys: keys.map(({ role, id, make, expected }) => ({
      role,
      id: formatHex(id),
      ...(make && { make }),
      ...(expected && { spki: publicKeyText(expected) }),
    })),
  };
  return parseBase64((await run({ token, ceremony: ceremonyText })) as string);
}

/** A ceremony as JSON. */
export interface CeremonyText extends Omit<CeremonyRequest, "authority" | "keys"> {
  readonly authority: string;
  readonly keys: readonly {
    readonly role: string;
    readonly id: string;
    readonly make?: Algorithm;
    readonly spki?: string;
  }[];
}

/** For the child. */
export function ceremonyOf({ authority, keys, ...rest }: CeremonyText): CeremonyRequest {
  return {
    ...rest,
    authority: parseHex(authority),
    keys: keys.map(({ role, id, make, spki }) => ({
      role,
      id: parseHex(id),
      ...(make && { make }),
      ...(spki !== undefined && { expected: parsePublicKey(parseBase64(spki)) }),
    })),
  };
}

/** What goes to the child on its standard input. */
export type SetupRequest =
  | { readonly init: SoftHsmRequest }
  | { readonly token: KeysReference; readonly ceremony: CeremonyText }
  | {
      readonly token: KeysReference;
      readonly keys: readonly (Omit<KeyRequest, "id"> & { readonly id: string })[];
    };

/** And what comes back on its standard output. */
export type SetupAnswer = { readonly result: unknown } | { readonly code: string; readonly message: string };

/** For the child. */
export function keyRequestOf(key: Omit<KeyRequest, "id"> & { readonly id: string }): KeyRequest {
  return { ...key, id: parseHex(key.id) };
}

export function publicKeyText(key: PublicKey): string {
  return formatBase64(key.spki);
}

async function run(request: SetupRequest): Promise<unknown> {
  const main = fileURLToPath(new URL("./setup-child.js", import.meta.url));
  const child = spawn(process.execPath, [main], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(JSON.stringify(request));
  const chunks: Uint8Array[] = [];
  child.stdout.on("data", (chunk: Uint8Array) => chunks.push(chunk));
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve());
  });
  const text = Buffer.concat(chunks).toString();
  if (text === "") throw new OperationError("ERR_HSM_DEVICE", "the process that sets up the token died");
  const answer = JSON.parse(text) as SetupAnswer;
  if ("result" in answer) return answer.result;
  const code = Object.hasOwn(OPERATION_CODES, answer.code) ? (answer.code as OperationCode) : "ERR_HSM_DEVICE";
  throw new OperationError(code, answer.message);
}
