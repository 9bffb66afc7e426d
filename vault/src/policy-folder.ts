/** The files of a policy bundle out of a folder: plain files in plain folders, and nothing that could be overlooked. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import {
  FormatError,
  isPolicyPath,
  OperationError,
  POLICY_BYTES_MAX,
  POLICY_FILES_MAX,
  quote,
} from "@viafabric/schemas";

/**
 * @returns by path with forward slashes, ascending
 * @throws FormatError ERR_POLICY_BUNDLE for a link, a hidden file, a name, a number or a size that a bundle cannot have;
 * OperationError ERR_FILE
 */
export async function readPolicyFolder(folder: string): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  let left = POLICY_BYTES_MAX;
  const walk = async (below: string): Promise<void> => {
    const entries = await readdir(path.join(folder, below), { withFileTypes: true }).catch((cause) => {
      throw new OperationError("ERR_FILE", `could not read the folder ${path.join(folder, below)}`, { cause });
    });
    for (const entry of entries) {
      const name = below === "" ? entry.name : `${below}/${entry.name}`;
      if (!isPolicyPath(name)) throw wrong(`the path ${quote(name)}`);
      if (entry.isDirectory()) await walk(name);
      // A link would put into the bundle what lies elsewhere on this machine.
      else if (!entry.isFile()) throw wrong(`${quote(name)} is neither a file nor a folder`);
      else {
        if (files.size === POLICY_FILES_MAX) throw wrong(`more than ${POLICY_FILES_MAX} files`);
        const bytes = await readBounded(path.join(folder, name), left);
        left -= bytes.length;
        files.set(name, bytes);
      }
    }
  };
  await walk("");
  if (files.size === 0) throw wrong(`${folder} is empty`);
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function readBounded(file: string, bytesMax: number): Promise<Uint8Array> {
  try {
    return await readFileBounded(file, bytesMax);
  } catch (error) {
    if (error instanceof OperationError && error.code === "ERR_FILE_TOO_LARGE")
      throw wrong(`more than ${POLICY_BYTES_MAX} bytes`);
    throw error;
  }
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_POLICY_BUNDLE", `not a policy bundle: ${reason}`);
}
