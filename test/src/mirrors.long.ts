/**
 * `via node refresh` among mirrors that are down, lie or play for time, and with a clock that cannot be trusted. A bad
 * mirror may cost time and nothing else.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { folder, fresh, listen, NOW, newNode, refresh, serve, via, world } from "./mirrors-testkit.ts";

/** Each kind of bad mirror, and the code it fails with. */
const HOSTILE: Readonly<Record<string, readonly [code: string, open: () => Promise<string>]>> = {
  "is not there": ["ERR_FETCH", async () => "http://127.0.0.1:1"],
  "never answers": ["ERR_FETCH", () => listen(() => {})],
  "answers 500": ["ERR_FETCH", () => listen((_, response) => response.writeHead(500).end())],
  redirects: [
    "ERR_FETCH",
    () => listen((request, response) => response.writeHead(302, { location: fresh + request.url }).end()),
  ],
  "breaks off": [
    "ERR_FETCH",
    () =>
      serve(world.now.files, (response, bytes) => {
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy());
        return response;
      }),
  ],
  "sends a byte at a time": [
    "ERR_FETCH",
    () =>
      listen((_, response) => {
        const timer = setInterval(() => response.write(" "), 50);
        response.on("close", () => clearInterval(timer));
      }),
  ],
  "never ends": [
    "ERR_FILE_TOO_LARGE",
    () =>
      listen((_, response) => {
        const more = (): boolean => response.write(Buffer.alloc(65_536, " ")) && more();
        response.on("drain", more);
        more();
      }),
  ],
  "says yes to everything": [
    "ERR_METADATA",
    () => listen((_, response) => response.end("<html>Welcome to the hotel</html>")),
  ],
  "changes a bit": [
    "ERR_METADATA",
    () =>
      serve(world.now.files, (response, bytes) => {
        const changed = Buffer.from(bytes);
        changed[changed.length >> 1]! ^= 1;
        return response.end(changed);
      }),
  ],
  "cannot be reached any more, in a folder": ["ERR_FETCH", async () => path.join(folder, "no stick")],
  "shows what has expired": ["ERR_METADATA_EXPIRED", () => serve(world.expired.files)],
};

test("a mirror that fails, whatever the way, costs time and nothing else", async () => {
  const outcomes = Object.entries(HOSTILE).map(async ([what, [code, open]]) => {
    const mirror = await open();
    const home = await newNode();
    const helped = await refresh(home, mirror, fresh);
    assert.equal(helped.code, 0, `${what}: ${helped.err}`);
    assert.deepEqual([helped.json.mirror, helped.json.epoch, helped.json.overdue], [fresh, 3, false], what);
    assert.deepEqual(helped.json.held, [0, 1, 2, 3], what);
    const [failure] = helped.json.failures!;
    assert.ok(
      failure?.code === code || (code === "ERR_METADATA" && failure?.code.startsWith("ERR_")),
      `${what}: ${failure?.code}`,
    );
    assert.match(helped.err, /was of no use/, what);
  });
  await Promise.all(outcomes);
});

test("alone it gives a coded failure, and the node keeps what it had", async () => {
  const kinds = ["answers 500", "changes a bit", "says yes to everything", "breaks off"];
  await Promise.all(
    kinds.map(async (what) => {
      const home = await newNode();
      assert.equal((await refresh(home, fresh)).code, 0);
      const files = ["trust/trust.cbor", "trust/clock", "status.cbor"].map((name) => path.join(home, name));
      const held = await Promise.all(files.map((file) => readFile(file)));
      const run = await refresh(home, await HOSTILE[what]![1]());
      assert.notEqual(run.code, 0, what);
      assert.match(String(run.json.error), /^ERR_/, what);
      assert.deepEqual(await Promise.all(files.map((file) => readFile(file))), held, what);
    }),
  );
});

test("a clock behind what the trustees have signed is not trusted, also after a restart", async () => {
  const home = await newNode();
  assert.equal((await refresh(home, fresh)).code, 0);
  const token = path.join(folder, "token");
  await writeFile(token, world.now.tokens[0]!);
  assert.deepEqual((await via("check", "--token", token, "--home", home)).json.code, "accept");
  const clock = path.join(home, "trust/clock");
  assert.equal(Number(await readFile(clock, "utf8")), NOW);
  // As if the trustees had signed an hour from now, or this clock had lost an hour since.
  await writeFile(clock, `${NOW + 3600}\n`);
  const refused = await via("check", "--token", token, "--home", home);
  assert.deepEqual([refused.code, refused.json.code], [1, "clock-untrusted"]);
  assert.equal((await refresh(home, fresh)).code, 0, "news are taken all the same");
  assert.equal((await via("check", "--token", token, "--home", home)).json.code, "clock-untrusted");
});
