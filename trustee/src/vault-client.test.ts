import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { CodedError } from "@viafabric/schemas";
import { vaultClient } from "./vault-client.ts";

const AUTHORITY = new Uint8Array(32);
const ID = new Uint8Array(32).fill(7);

async function withServer(listener: RequestListener, work: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const refusedWith = (code: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  if (message) assert.match(error.message, message);
  return true;
};

const answering =
  (status: number, body: string): RequestListener =>
  (_request, response) => {
    response.statusCode = status;
    response.end(body);
  };

test("an answer that is not what a vault says is refused with a code", async () => {
  const good = {
    id: "07".repeat(32),
    role: "batches",
    version: 2,
    state: "open",
    created: 1,
    expires: 2,
    threshold: 2,
    rejections: [],
  };
  const asked = { requestedBy: [], ownApprovals: false };
  const detail = { ...good, ...asked, signed: "", approvals: [], attachments: {} };
  const answers: readonly unknown[] = [
    [],
    null,
    7,
    {},
    { ...detail, id: "07" },
    { ...detail, role: "snapshot" },
    { ...detail, role: "__proto__" },
    { ...detail, version: -1 },
    { ...detail, version: 1.5 },
    { ...detail, approvals: {} },
    { ...detail, approvals: [7] },
    { ...detail, approvals: [{ keyid: "a", signature: "zz" }] },
    { ...detail, rejections: [{ keyid: "a", reason: 7, signature: "" }] },
    { ...detail, requestedBy: ["07"] },
    { ...detail, ownApprovals: "yes" },
    { ...detail, attachments: [] },
    { ...detail, attachments: { "head.cbor": "*" } },
    { ...detail, attachments: { "head.cbor": 7 } },
  ];
  for (const answer of answers)
    await withServer(answering(200, JSON.stringify(answer)), async (url) => {
      const asked = vaultClient(url, AUTHORITY, () => 0).proposal(ID);
      await assert.rejects(asked, (error) => error instanceof CodedError, JSON.stringify(answer));
    });
  await withServer(answering(200, JSON.stringify(detail)), async (url) => {
    assert.equal((await vaultClient(url, AUTHORITY, () => 0).proposal(ID)).version, 2);
  });
});

test("a refusal is shown with its code and detail, and cannot drive the terminal", async () => {
  const problem = JSON.stringify({ code: "ERR_CLOSED", detail: "\u001b[2Jgone\u202e" });
  await withServer(answering(409, problem), async (url) => {
    await assert.rejects(vaultClient(url, AUTHORITY, () => 0).proposals(), (error) => {
      refusedWith("ERR_VAULT", /409: "ERR_CLOSED" "\\u001b\[2Jgone\?"/)(error);
      return true;
    });
  });
  await withServer(answering(500, "<html>"), async (url) => {
    await assert.rejects(vaultClient(url, AUTHORITY, () => 0).proposals(), refusedWith("ERR_VAULT", /500/));
  });
});

test("redirects, endless answers and dead servers end in ERR_VAULT", async () => {
  const redirect: RequestListener = (_request, response) => {
    response.writeHead(302, { location: "/elsewhere" }).end();
  };
  await withServer(redirect, async (url) => {
    await assert.rejects(vaultClient(url, AUTHORITY, () => 0).proposals(), refusedWith("ERR_VAULT"));
  });
  const endless: RequestListener = (_request, response) => {
    const part = Buffer.alloc(1024 * 1024, 0x20);
    const more = (): void => {
      while (!response.destroyed && response.write(part));
      if (!response.destroyed) response.once("drain", more);
    };
    more();
  };
  await withServer(endless, async (url) => {
    await assert.rejects(vaultClient(url, AUTHORITY, () => 0).proposals(), refusedWith("ERR_VAULT", /more than/));
  });
  await assert.rejects(vaultClient("http://127.0.0.1:1", AUTHORITY, () => 0).proposals(), refusedWith("ERR_VAULT"));
  assert.throws(() => vaultClient("file:///etc", AUTHORITY, () => 0), refusedWith("ERR_USAGE"));
});
