/** The published folder of a vault that lives, followed by each of the four clients from root 1. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { parseHex } from "@viafabric/schemas";
import { HEAD_PATH, KEYS_PATH, POLICY_PATH, RULES_PATH, STATEMENT_PATH, targetFileName } from "@viafabric/tuf";
import type { Client } from "../tuf-golden/repository.ts";
import type { Outcome, VisitRepository } from "./client.ts";
import { visitWithOwn } from "./own.ts";
import { goTuf, type Peer, pythonTuf, visitWithPeer } from "./peers.ts";
import { openStaticServer } from "./server.ts";
import { visitWithTufJs } from "./tuf-js.ts";

const TARGETS = [HEAD_PATH, KEYS_PATH, POLICY_PATH, RULES_PATH, STATEMENT_PATH];

export interface VaultClient {
  readonly client: Client;
  readonly visit: VisitRepository;
  readonly peer: Peer;
}

export async function vaultClients(): Promise<readonly VaultClient[]> {
  const [python, go] = [await pythonTuf(), await goTuf()];
  const here: Peer = { command: [process.execPath] };
  return [
    { client: "viafabric", visit: visitWithOwn, peer: here },
    { client: "tuf-js", visit: visitWithTufJs, peer: here },
    { client: "python-tuf", visit: (visit) => visitWithPeer(python, visit), peer: python },
    { client: "go-tuf", visit: (visit) => visitWithPeer(go, visit), peer: go },
  ];
}

/** Twice: the second time there is nothing new. @param folder where the client keeps what it trusts */
export async function followVault({ client, visit }: VaultClient, published: string, folder: string): Promise<void> {
  const store = path.join(folder, client);
  await mkdir(store, { recursive: true });
  const server = await openStaticServer();
  try {
    server.serve(path.join(published, "tuf"));
    const root = path.join(published, "root/1.root.json");
    const now = Math.floor(Date.now() / 1000);
    const visits: Outcome[] = [];
    for (let i = 0; i < 2; i++)
      visits.push(await visit({ store, root, url: server.url, read: server.read, targets: TARGETS, now }));
    const [first, again] = visits as [Outcome, Outcome];
    assert.equal(first.verdict, "accept", `${client}: ${first.error}`);
    assert.deepEqual(again, first, client);
    // Ours reads the statement with its sets, not as a target.
    for (const target of TARGETS.filter((name) => client !== "viafabric" || name !== STATEMENT_PATH)) {
      const file = targetFileName(target, parseHex(first.targets![target]!, 32));
      assert.ok(existsSync(path.join(published, "tuf/targets", file)), `${client}: ${file} was not published`);
    }
  } finally {
    await server.close();
  }
}
