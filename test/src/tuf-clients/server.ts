/** A folder served as any static server does: by HTTP on the loopback, and to a reader in this process. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { readFileIfPresent } from "@viafabric/platform";

const FILE_BYTES_MAX = 1024 * 1024;

/** What is sent instead of the file `name`: to change a bit on its way, for example. */
export type Alter = (name: string, bytes: Uint8Array) => Uint8Array;

export interface StaticServer {
  readonly url: string;
  /** The folder served from now on. */
  serve(folder: string, alter?: Alter): void;
  /** Undefined where HTTP says 404. */
  read(name: string): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}

export async function openStaticServer(): Promise<StaticServer> {
  let folder: string | undefined;
  let alter: Alter = (_, bytes) => bytes;
  const read: StaticServer["read"] = async (name) => {
    const bytes = folder && (await readFileIfPresent(path.join(folder, name), FILE_BYTES_MAX));
    return bytes ? alter(name, bytes) : undefined;
  };
  const server = createServer((request, response) => {
    read(new URL(request.url ?? "/", "http://localhost").pathname.slice(1)).then(
      (bytes) => (bytes ? response.end(bytes) : response.writeHead(404).end()),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    read,
    serve(next, change = (_, bytes) => bytes) {
      folder = next;
      alter = change;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
