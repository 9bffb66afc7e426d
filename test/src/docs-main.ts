/** Writes the generated documents. */
import { writeFileSync } from "node:fs";
import { errorsDocument } from "./errors-doc.ts";
import { formatsDocument } from "./formats-doc.ts";
import { tufClientsDocument } from "./tuf-clients-doc.ts";

writeFileSync(new URL("../../docs/errors.md", import.meta.url), errorsDocument());
writeFileSync(new URL("../../docs/formats.md", import.meta.url), formatsDocument());
writeFileSync(new URL("../../docs/tuf-clients.md", import.meta.url), tufClientsDocument());
