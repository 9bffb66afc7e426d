/**
 * Writes test/vectors/formats and test/vectors/tuf. Run by hand when a format changes; tests hold that the files are
 * what this makes.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { goldenFiles } from "./tuf-golden/index.ts";
import { formatVectorFile, formatVectors } from "./vectors/index.ts";

const formats = new URL("../vectors/formats/", import.meta.url);
mkdirSync(formats, { recursive: true });
for (const [name, file] of await formatVectors()) writeFileSync(new URL(name, formats), formatVectorFile(file));

const golden = new URL("../vectors/tuf/", import.meta.url);
const files = await goldenFiles();
for (const name of new Set([...files.keys()].filter((path) => path.includes("/")).map((path) => path.split("/")[0]!)))
  rmSync(new URL(name, golden), { recursive: true, force: true });
for (const [path, bytes] of files) {
  const file = new URL(path, golden);
  mkdirSync(new URL(".", file), { recursive: true });
  writeFileSync(file, bytes);
}
