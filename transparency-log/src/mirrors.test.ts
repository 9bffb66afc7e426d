import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { CodedError, OperationError, utf8, VerificationError } from "@viafabric/schemas";
import { httpFetch, type Mirror, openMirrors, tryMirrors } from "./client.ts";

const mirror = (name: string): Mirror => ({ name, fetch: async () => utf8(name) });
const [a, b, c] = [mirror("a"), mirror("b"), mirror("c")];

/** Work that each mirror answers with its entry: a value, or a failure. */
function workOf(answers: Readonly<Record<string, string | Error>>) {
  return async (fetch: Mirror["fetch"]): Promise<string> => {
    const answer = answers[Buffer.from((await fetch("name"))!).toString()]!;
    if (answer instanceof Error) throw answer;
    return answer;
  };
}

const down = new OperationError("ERR_FETCH", "down", { retryable: true });
const expired = new VerificationError("ERR_METADATA_EXPIRED", "timestamp expired");
const forged = new VerificationError("ERR_THRESHOLD", "1 of 3");

test("the next mirror is asked when one is down, lies or has expired", async () => {
  for (const failure of [down, expired, forged]) {
    const answer = await tryMirrors([a, b, c], workOf({ a: failure, b: "good", c: "never asked" }));
    assert.deepEqual([answer.value, answer.mirror], ["good", "b"]);
    assert.deepEqual(answer.failures, [{ mirror: "a", error: failure }]);
  }
});

test("an old state is taken only where no mirror has a newer one", async () => {
  const isCurrent = (value: string) => value === "new";
  assert.equal((await tryMirrors([a, b, c], workOf({ a: "old", b: "new", c: "new" }), isCurrent)).mirror, "b");
  assert.equal((await tryMirrors([a, b], workOf({ a: "old", b: down }), isCurrent)).value, "old");
  assert.equal((await tryMirrors([a, b], workOf({ a: "old", b: "older" }), isCurrent)).mirror, "b");
});

test("when all fail, the code tells an attack from a freeze from a dead network", async () => {
  const cases: readonly (readonly [readonly [Error, Error], string])[] = [
    [[down, down], "ERR_FETCH"],
    [[down, expired], "ERR_FREEZE"],
    [[expired, down], "ERR_FREEZE"],
    [[expired, expired], "ERR_FREEZE"],
    [[down, forged], "ERR_THRESHOLD"],
    [[forged, expired], "ERR_THRESHOLD"],
  ];
  for (const [[first, second], code] of cases) {
    await assert.rejects(tryMirrors([a, b], workOf({ a: first, b: second })), (error: unknown) => {
      assert.ok(error instanceof CodedError && error.code === code, String(error));
      assert.match(error.message, /a: .*; b: /);
      assert.equal(error instanceof OperationError, code === "ERR_FETCH");
      return true;
    });
  }
  await assert.rejects(tryMirrors([a], workOf({ a: expired })), { code: "ERR_FREEZE" });
  await assert.rejects(tryMirrors([a], workOf({ a: forged })), forged);
  const locked = new OperationError("ERR_LOCKED", "another process");
  await assert.rejects(tryMirrors([a, b], workOf({ a: locked, b: "good" })), locked);
  const bug = new TypeError("ours");
  await assert.rejects(tryMirrors([a, b], workOf({ a: bug, b: "good" })), bug);
});

test("a list of mirrors has no repetition and an end", () => {
  assert.deepEqual(
    openMirrors(["https://a.example/public", "/media/stick"]).map(({ name }) => name),
    ["https://a.example/public", "/media/stick"],
  );
  for (const list of [[], ["a", "a"], Array.from({ length: 17 }, (_, i) => `folder ${i}`), ["http://"]])
    assert.throws(() => openMirrors(list), { code: "ERR_USAGE" }, String(list));
});

test("a server that plays for time is given up, and a slow line is not", async () => {
  const respond: RequestListener = (request, response) => {
    const name = request.url!.slice(1);
    if (name === "hang") return;
    response.writeHead(200, { "content-length": 6000 });
    const bytes = name === "loris" ? 1 : 600;
    let sent = 0;
    const timer = setInterval(() => {
      if (name === "dies" && sent >= 1200) response.destroy();
      response.write(Buffer.alloc(bytes));
      sent += bytes;
      if (sent < 6000) return;
      clearInterval(timer);
      response.end();
    }, 100);
    response.on("close", () => clearInterval(timer));
  };
  const server = createServer(respond);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const fetch = httpFetch(url, { attemptsMax: 1, stallSecondsMax: 0.5 });
    for (const name of ["hang", "loris"])
      await assert.rejects(fetch(name), { code: "ERR_FETCH", message: /no progress/ }, name);
    await assert.rejects(fetch("dies"), { code: "ERR_FETCH" });
    // Longer than a stall may be, but always on its way.
    assert.equal((await fetch("slow"))!.length, 6000);
    await assert.rejects(fetch("slow", 1000), { code: "ERR_FILE_TOO_LARGE" });
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});
