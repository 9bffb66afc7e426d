/** The documents are true: generated ones equal their source, named files and functions exist. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { errorsDocument } from "./errors-doc.ts";
import { formatsDocument } from "./formats-doc.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const read = (file: string) => readFileSync(path.join(root, file), "utf8");

test("docs/errors.md is what the tables say", () => {
  assert.equal(read("docs/errors.md"), errorsDocument(), "run npm run docs");
});

test("docs/formats.md shows the bytes of the vectors", () => {
  assert.equal(read("docs/formats.md"), formatsDocument(), "run node test/dist/docs-main.js");
});

test("every file and function that docs/architecture.md names exists", () => {
  const text = read("docs/architecture.md");
  const named = [...text.matchAll(/`([a-z-]+\/(?:src|prisma)\/[\w./-]+\.(?:ts|prisma))(?:#(\w+))?`/g)];
  assert.ok(named.length > 20, "the architecture names where things happen");
  for (const [, file, symbol] of named) {
    assert.ok(existsSync(path.join(root, file!)), `${file} does not exist`);
    if (symbol) assert.match(read(file!), new RegExp(`\\b${symbol}\\b`), `${file} has no ${symbol}`);
  }
});

test("every relative link in the documents leads somewhere", () => {
  const documents = [
    "README.md",
    ...readdirSync(path.join(root, "docs"))
      .filter((f) => f.endsWith(".md"))
      .map((f) => `docs/${f}`),
  ];
  for (const document of documents) {
    for (const [, target] of read(document).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(path.join(root, path.dirname(document), target!)), `${document} links to ${target}`);
    }
  }
});

test("no text in the repository speaks of the machine it was made on", () => {
  const documents = ["README.md", ...readdirSync(path.join(root, "docs")).map((f) => `docs/${f}`)];
  for (const document of documents) {
    if (document.endsWith(".md"))
      assert.doesNotMatch(read(document), /(^|[\s"`'(])\/(?:work|farm|root|home)\//m, document);
  }
});
