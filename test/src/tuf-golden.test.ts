/** Golden TUF repositories: made again to the byte, and judged by our client and by stock tuf-js. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { equalBytes } from "@viafabric/schemas";
import { visitWithOwn } from "./tuf-clients/own.ts";
import { GOLDEN, goldenIndex, testClient } from "./tuf-clients/play.ts";
import { visitWithTufJs } from "./tuf-clients/tuf-js.ts";
import { tufClientsDocument } from "./tuf-clients-doc.ts";
import { goldenFiles } from "./tuf-golden/index.ts";
import { CLIENTS } from "./tuf-golden/repository.ts";

test("making the golden repositories again gives the same files", async () => {
  const made = await goldenFiles();
  const kept = readdirSync(GOLDEN, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "README.md")
    .map((entry) => path.relative(GOLDEN, path.join(entry.parentPath, entry.name)));
  assert.deepEqual(kept.sort(), [...made.keys()].sort(), "run node test/dist/make-vectors.js");
  for (const [name, bytes] of made)
    assert.ok(equalBytes(readFileSync(path.join(GOLDEN, name)), bytes), `${name}: run node test/dist/make-vectors.js`);
});

test("what our client accepts, every client accepts that has its store", () => {
  for (const { name, steps } of goldenIndex().repositories)
    for (const { folder, before, verdicts } of steps) {
      if (verdicts.viafabric.verdict === "refuse" || before) continue;
      for (const client of CLIENTS) assert.equal(verdicts[client].verdict, "accept", `${name}/${folder}: ${client}`);
    }
});

test("docs/tuf-clients.md is what the index says", () => {
  const page = readFileSync(new URL("../../docs/tuf-clients.md", import.meta.url), "utf8");
  assert.equal(page, tufClientsDocument(), "run node test/dist/docs-main.js");
});

testClient("viafabric", visitWithOwn);
testClient("tuf-js", visitWithTufJs);
