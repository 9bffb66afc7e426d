import assert from "node:assert/strict";
import { test } from "node:test";
import { formatHex, OperationError } from "@viafabric/schemas";
import { VaultClient } from "./client.ts";
import { requestJson } from "./fixtures.test.ts";
import { sendRequest } from "./operate.ts";
import { ACTORS, authority, testVault } from "./testing-app.test.ts";

test("whoever asks behind an open proposal is told which, once, and a wait that ends names it", async () => {
  const vault = await testVault();
  const url = await vault.app.listen({ host: "127.0.0.1", port: 0 });
  const client = new VaultClient(url, authority, () => vault.clock.now);
  const ahead = formatHex(vault.proposal.id);
  const ask = async (route: "requests" | "trust-requests", body: unknown) => {
    const notes: string[] = [];
    // No sequencer runs, so the wait ends by itself.
    const asked = sendRequest(client, ACTORS.operator, route, body, 1, (text) => notes.push(text));
    const error = await asked.then(
      () => undefined,
      (caught: unknown) => caught,
    );
    assert.ok(error instanceof OperationError && error.code === "ERR_TIMEOUT", String(error));
    return [notes.map((text) => text.includes(ahead)), error.message.includes(ahead)];
  };
  assert.deepEqual(await ask("requests", requestJson(1)), [[true], true]);
  const station = formatHex(ACTORS.station.publicKey.kid);
  assert.deepEqual(await ask("trust-requests", { add: [], remove: [station] }), [[], false], "another role's");
});
