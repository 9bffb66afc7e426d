/**
 * A witness on the network: node:http around the Cosigner, for callers that nobody knows.
 *
 * Everything a caller can use up has a limit: bytes, time, connections, requests at once. What goes beyond is answered
 * 413 or 429 or cut off, and the memory is not touched.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { CodedError, OperationError } from "@viafabric/schemas";
import {
  ADD_CHECKPOINT_PATH,
  type Cosigner,
  WITNESS_REQUEST_BYTES_MAX,
  type WitnessAnswer,
} from "@viafabric/transparency-log/witness";

/** What became of a request: for the log on standard error. */
export type WitnessReport = (line: string) => void;

export interface WitnessServer {
  readonly url: string;
  close(): Promise<void>;
}

/** A log asks now and then; a monitor reads. */
const CONNECTIONS_MAX = 512;
/** Each holds a body and waits for the disk. */
const REQUESTS_MAX = 128;
const HEADER_BYTES_MAX = 8 * 1024;
const HEADERS_MS_MAX = 5_000;
const REQUEST_MS_MAX = 10_000;
const TEXT = "text/plain; charset=utf-8";

type Answer = Omit<WitnessAnswer, "status"> & { readonly status: number };

/** @throws OperationError ERR_PORT */
export async function serveWitness(
  cosigner: Cosigner,
  host: string,
  port: number,
  report: WitnessReport,
): Promise<WitnessServer> {
  let running = 0;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (running >= REQUESTS_MAX) return send(response, { status: 429, type: TEXT, body: "too many requests\n" });
    running++;
    try {
      const { status, type, body } = await answerTo(cosigner, request);
      // A log that starts does not know the size yet; what else is refused, somebody should look at.
      const usual = request.method !== "POST" || status === 200 || status === 409;
      if (!usual) report(`${request.socket.remoteAddress} ${status}: ${body.trim()}`);
      send(response, { status, type, body });
    } catch (error) {
      // Nothing was promised: the caller may ask again, the operator reads why.
      report(`failed: ${error instanceof CodedError ? `${error.code}: ${error.message}` : String(error)}`);
      send(response, { status: 500, type: TEXT, body: "the witness cannot cosign now\n" });
    } finally {
      running--;
    }
  };
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void answer(request, response),
  );
  server.maxConnections = CONNECTIONS_MAX;
  const bound = await listen(server, host, port);
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}/`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      await closed;
    },
  };
}

async function answerTo(cosigner: Cosigner, request: IncomingMessage): Promise<Answer> {
  const path = request.url!.slice(1);
  if (path === ADD_CHECKPOINT_PATH) {
    if (request.method !== "POST") return { status: 405, type: TEXT, body: "POST a checkpoint\n" };
    const body = await readBounded(request);
    return body ? cosigner.addCheckpoint(body) : { status: 413, type: TEXT, body: "too long\n" };
  }
  if (request.method !== "GET" && request.method !== "HEAD") return { status: 405, type: TEXT, body: "only GET\n" };
  const note = await cosigner.latest(path);
  if (!note) return { status: 404, type: TEXT, body: "nothing here\n" };
  return { status: 200, type: TEXT, body: Buffer.from(note).toString("utf8") };
}

/** Undefined when it is too long; then the connection is not read any further. */
async function readBounded(request: IncomingMessage): Promise<Uint8Array | undefined> {
  if (Number(request.headers["content-length"] ?? 0) > WITNESS_REQUEST_BYTES_MAX) return undefined;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > WITNESS_REQUEST_BYTES_MAX) return undefined;
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts, length));
}

function send(response: ServerResponse, { status, type, body }: Answer): void {
  if (response.destroyed) return;
  // A caller who has not been heard out would have its next request misread.
  if (status === 413 || status === 429) response.setHeader("Connection", "close");
  response.writeHead(status, {
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
  });
  response.end(body);
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      reject(new OperationError("ERR_PORT", `could not listen on ${host}:${port}`, { cause }));
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : port);
    });
  });
}
