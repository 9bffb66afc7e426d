/**
 * A witness that dies: `node killed-witness-testkit.js HOME PASSPHRASE LOGS before|after`. The real program, but it
 * kills itself at its first request, before or after the memory took what it is about to answer.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { openKeystore } from "@viafabric/platform";
import { noteVerifier } from "@viafabric/schemas";
import { Cosigner, openWitnessFolder, parseKnownLogs } from "@viafabric/transparency-log/witness";
import { serveWitness } from "./witness-server.ts";

const [home, passphrase, logs, when] = process.argv.slice(2) as [string, string, string, "before" | "after"];
const signer = await openKeystore(path.join(home, "keystore.json"), passphrase);
const name = (await readFile(path.join(home, "name"), "utf8")).trim();
const store = await openWitnessFolder(path.join(home, "logs"), noteVerifier(name, signer.publicKey, 4));
const cosigner = new Cosigner({
  name,
  signer,
  logs: parseKnownLogs(await readFile(logs)),
  now: () => Math.floor(Date.now() / 1000),
  store: {
    read: store.read,
    async replace(...args) {
      if (when === "after") await store.replace(...args);
      process.kill(process.pid, "SIGKILL");
      return new Promise(() => {});
    },
  },
});
const { url } = await serveWitness(cosigner, "127.0.0.1", 0, () => {});
process.stdout.write(`${JSON.stringify({ url })}\n`);
