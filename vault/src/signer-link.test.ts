import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { signerLink } from "./signer-link.ts";

test("a connection that broke is made again, and the question that was under way fails", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "via-link-"));
  const socket = path.join(folder, "signer.sock");
  await assert.rejects(signerLink(socket), { code: "ERR_SIGNER" });
  const open = new Set<Socket>();
  let connections = 0;
  // A signer that hangs up on every question.
  const server = createServer((connection) => {
    connections++;
    open.add(connection);
    connection.once("data", () => connection.destroy());
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  try {
    const link = await signerLink(socket);
    for (let asked = 1; asked <= 3; asked++) {
      await assert.rejects(link.state(), { code: "ERR_SIGNER" });
      assert.equal(connections, asked);
    }
    await link.close();
  } finally {
    for (const connection of open) connection.destroy();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  }
});
