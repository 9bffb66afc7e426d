/** Stock tuf-js, as its users start it: the pinned root is copied into the store once, everything else is default. */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { formatHex, sha256 } from "@viafabric/schemas";
import { Updater } from "tuf-js";
import { DownloadHTTPError } from "tuf-js/dist/error.js";
import type { Outcome, Visit } from "./client.ts";

export async function visitWithTufJs(visit: Visit): Promise<Outcome> {
  const downloads = path.join(visit.store, "downloads");
  await mkdir(downloads, { recursive: true });
  const anchor = path.join(visit.store, "root.json");
  if (!existsSync(anchor)) await copyFile(visit.root, anchor);
  try {
    const updater = new Updater({
      metadataDir: visit.store,
      metadataBaseUrl: `${visit.url}/metadata`,
      targetDir: downloads,
      targetBaseUrl: `${visit.url}/targets`,
    });
    await updater.refresh();
    const targets: Record<string, string> = {};
    for (const name of visit.targets) {
      const info = await updater.getTargetInfo(name);
      if (!info) throw new Error(`${name} is not listed`);
      const file = await updater.downloadTarget(info, path.join(downloads, encodeURIComponent(name)));
      targets[name] = formatHex(sha256(new Uint8Array(await readFile(file))));
    }
    return { verdict: "accept", targets };
  } catch (error) {
    const { name, message } = error as Error;
    // It wraps the errors of its fetcher into text, save for those of the root and the timestamp.
    const network = error instanceof DownloadHTTPError || /Failed to download|fetch failed/.test(message);
    return { verdict: network ? "error" : "refuse", error: `${name}: ${message}` };
  }
}
