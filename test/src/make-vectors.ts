/** Writes test/vectors/formats. Run by hand when a format changes; a test holds that the files are what this makes. */
import { mkdirSync, writeFileSync } from "node:fs";
import { formatVectorFile, formatVectors } from "./vectors/index.ts";

const folder = new URL("../vectors/formats/", import.meta.url);
mkdirSync(folder, { recursive: true });
for (const [name, file] of await formatVectors()) writeFileSync(new URL(name, folder), formatVectorFile(file));
