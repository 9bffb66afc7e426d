/** Whoever has a vault's home: its HSM, the PIN, and every online key that is in there on that day. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { openKeys } from "@viafabric/hsm";
import { readSignerConfig } from "@viafabric/hsm/signer";
import { formatHex, type Signer, sha256 } from "@viafabric/schemas";
import { assemble, canonicalJson, formatExpires, type Json, parseJson, signMetadata } from "@viafabric/tuf";

type JsonObject = { readonly [name: string]: Json };

/** A fast-forward: a copy of the published files whose snapshot and timestamp are of a version far ahead. */
export interface Thief {
  fastForward(published: string, copy: string, version: number): Promise<void>;
  close(): Promise<void>;
}

/** Takes the keys of snapshot and timestamp that sign today; they stay the thief's whatever follows them. */
export async function thiefIn(vaultHome: string): Promise<Thief> {
  const { hsm: place, keys } = await readSignerConfig(path.join(vaultHome, "private", "signer", "signer.json"));
  if ("confFile" in place) process.env.SOFTHSM2_CONF = place.confFile;
  const hsm = await openKeys(place);
  const stolen = async (role: "snapshot" | "timestamp") => {
    const { id, publicKey } = keys[role].at(-1)!;
    return hsm.signer(id, publicKey);
  };
  const [snapshotKey, timestampKey] = [await stolen("snapshot"), await stolen("timestamp")];
  return {
    async fastForward(published, copy, version) {
      cpSync(published, copy, { recursive: true });
      const metadata = (name: string) => path.join(copy, "tuf", "metadata", name);
      const signedIn = (name: string) => (parseJson(readFileSync(metadata(name))) as JsonObject).signed as JsonObject;
      const forge = async (key: Signer, signed: JsonObject, name: string) => {
        const bytes = canonicalJson(signed);
        const file = assemble(bytes, [await signMetadata(key, bytes)]);
        writeFileSync(metadata(name), file);
        return file;
      };
      const expires = formatExpires(Math.floor(Date.now() / 1000) + 86_400);
      const timestamp = signedIn("timestamp.json");
      const { version: now } = (timestamp.meta as JsonObject)["snapshot.json"] as JsonObject;
      const ahead = { ...signedIn(`${now}.snapshot.json`), version, expires };
      const snapshot = await forge(snapshotKey, ahead, `${version}.snapshot.json`);
      const info = { version, length: snapshot.length, hashes: { sha256: formatHex(sha256(snapshot)) } };
      await forge(timestampKey, { ...timestamp, version, expires, meta: { "snapshot.json": info } }, "timestamp.json");
    },
    close: () => hsm.close(),
  };
}
