/** For tests: witnesses on loopback. What cosigns and remembers is the real one; the server around it can be told to fail. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { after } from "node:test";
import { formatVerifierKey, noteVerifier } from "@viafabric/schemas";
import { Cosigner, openWitnessFolder, parseKnownLogs } from "@viafabric/transparency-log/witness";
import { namedSigner } from "./fixtures.test.ts";
import type { ListedWitness } from "./witness-change.ts";

export interface TestWitness extends Required<ListedWitness> {
  /** Requests that it answered. */
  asked: number;
  mode: "honest" | "down" | "contradicts";
  /** Before it can cosign anything: the policy of the log, or its key. */
  know(logs: Uint8Array): void;
}

export async function startWitnesses(count: number): Promise<readonly TestWitness[]> {
  const folder = await mkdtemp(path.join(tmpdir(), "via-witnesses-"));
  const closers: (() => Promise<void>)[] = [];
  const witnesses: TestWitness[] = [];
  for (let n = 1; n <= count; n++) {
    const name = `witness.example/${n}`;
    const signer = namedSigner(name);
    const verifier = noteVerifier(name, signer.publicKey, 4);
    const store = await openWitnessFolder(path.join(folder, String(n)), verifier);
    let cosigner: Cosigner | undefined;
    const witness: TestWitness = {
      vkey: formatVerifierKey(verifier),
      url: "",
      asked: 0,
      mode: "honest",
      know(logs) {
        const now = () => Math.floor(Date.now() / 1000);
        cosigner = new Cosigner({ name, signer, logs: parseKnownLogs(logs), store, now });
      },
    };
    const server = createServer((request, response) => {
      void (async () => {
        const body = new Uint8Array(await buffer(request));
        if (witness.mode === "down" || !cosigner) return response.destroy();
        witness.asked++;
        if (witness.mode === "contradicts") return response.writeHead(422).end("another tree\n");
        const answer = await cosigner.addCheckpoint(body);
        response.writeHead(answer.status, { "Content-Type": answer.type }).end(answer.body);
      })();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    Object.assign(witness, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` });
    witnesses.push(witness);
    closers.push(
      () => closed(server),
      () => store.close(),
    );
  }
  after(async () => {
    for (const close of closers) await close();
    await rm(folder, { recursive: true });
  });
  return witnesses;
}

async function closed(server: Server): Promise<void> {
  const done = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await done;
}
