/** Golden TUF repositories: made again to the byte, and judged by our client and by stock tuf-js. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { equalBytes } from "@viafabric/schemas";
import { visitWithOwn } from "./tuf-clients/own.ts";
import { GOLDEN, testClient } from "./tuf-clients/play.ts";
import { visitWithTufJs } from "./tuf-clients/tuf-js.ts";
import { goldenFiles } from "./tuf-golden/index.ts";

test("making the golden repositories again gives the same files", async () => {
  const made = await goldenFiles();
  const kept = readdirSync(GOLDEN, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "README.md")
    .map((entry) => path.relative(GOLDEN, path.join(entry.parentPath, entry.name)));
  assert.deepEqual(kept.sort(), [...made.keys()].sort(), "run node test/dist/make-vectors.js");
  for (const [name, bytes] of made)
    assert.ok(equalBytes(readFileSync(path.join(GOLDEN, name)), bytes), `${name}: run node test/dist/make-vectors.js`);
});

testClient("viafabric", visitWithOwn);
testClient("tuf-js", visitWithTufJs);
