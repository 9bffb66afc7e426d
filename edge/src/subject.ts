/** Resolving a token's subject to its key; the only door to did-resolver. Offline methods only: no network is asked. */
import { ed25519PublicKey, type PublicKey, parseDidKey } from "@viafabric/schemas";
import { Refusal } from "@viafabric/verifier";
import { Resolver } from "did-resolver";
import { getResolver } from "key-did-resolver";

const resolver = new Resolver(getResolver());

/**
 * The Ed25519 key of a did:key subject, as its DID document states it.
 * @throws Refusal subject-unsupported
 */
export async function resolveSubject(did: string): Promise<PublicKey> {
  const { didDocument, didResolutionMetadata } = await resolver.resolve(did);
  const id = didDocument?.id;
  if (didResolutionMetadata.error || id !== did)
    throw new Refusal("subject-unsupported", `cannot resolve ${did.slice(0, 80)}`);
  try {
    return ed25519PublicKey(parseDidKey(did));
  } catch (cause) {
    throw new Refusal("subject-unsupported", `${did.slice(0, 80)} is not an Ed25519 did:key`, { cause });
  }
}
