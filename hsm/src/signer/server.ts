/**
 * The signer's only door: a UNIX socket that its own user alone may open. There is no network listener.
 *
 * Requests are carried out one at a time, in the order in which they came, whatever connection they came by.
 */
import { chmod, unlink } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { isCode, PRIVATE_FILE } from "@viafabric/platform";
import { type CborValue, OperationError, VerificationError } from "@viafabric/schemas";
import { decodeParams, encodeStatus, encodeTufSignatures } from "./messages.ts";
import { decodeRequest, encodeAnswer, encodeFrame, FrameReader, type Request, refusalOf } from "./protocol.ts";
import type { BoundedSigner, OpenBatch } from "./signer.ts";

/** One sequencer, and a person looking. Each connection may hold one frame in memory. */
export const CONNECTIONS_MAX = 4;

export interface SignerServer {
  /** Finishes the request at hand, then closes every connection. */
  close(): Promise<void>;
}

/** @param group whether the group of this process may open the socket too. @param report told about every refusal, for the log of the process */
export async function serveSigner(
  signer: BoundedSigner,
  socketPath: string,
  report: (method: string, refusal: { readonly code: string; readonly message: string }) => void,
  group = false,
): Promise<SignerServer> {
  // A socket left by a killed process; the lock on the folder says that no other one is running.
  await unlink(socketPath).catch((error: unknown) => {
    if (!isCode(error, "ENOENT")) throw error;
  });
  const sockets = new Set<Socket>();
  let queue: Promise<void> = Promise.resolve();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // A client that goes away takes nothing back: what it asked for has happened or will.
    socket.on("error", () => socket.destroy());
    const reader = new FrameReader();
    const visit: Visit = { batch: undefined, batches: 0 };
    socket.on("data", (chunk) => {
      let bodies: readonly Uint8Array[];
      try {
        bodies = reader.push(chunk);
      } catch (error) {
        report("frame", refusalOf(error));
        socket.destroy();
        return;
      }
      if (bodies.length === 0) return;
      // Nothing more is read from this connection before it has its answers.
      socket.pause();
      queue = queue.then(async () => {
        for (const body of bodies) await answer(signer, visit, socket, body, report);
        socket.resume();
      });
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: Error) =>
      reject(new OperationError("ERR_SIGNER", `could not listen on ${socketPath}: ${cause.message}`, { cause }));
    server.once("error", failed);
    server.listen(socketPath, resolve);
  });
  await chmod(socketPath, group ? PRIVATE_FILE | 0o060 : PRIVATE_FILE);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await queue;
      for (const socket of sockets) socket.end();
      await closed;
    },
  };
}

/** A connection: it may have one batch open, which is gone with it. */
interface Visit {
  batch: OpenBatch | undefined;
  /** Names the batch, so that an answer is never taken for one about another. */
  batches: number;
}

async function answer(
  signer: BoundedSigner,
  visit: Visit,
  socket: Socket,
  body: Uint8Array,
  report: (method: string, refusal: { readonly code: string; readonly message: string }) => void,
): Promise<void> {
  let request: Request;
  try {
    request = decodeRequest(body);
  } catch (error) {
    report("frame", refusalOf(error));
    socket.destroy();
    return;
  }
  const { id, method } = request;
  try {
    const result = await perform(signer, visit, request);
    socket.write(encodeFrame(encodeAnswer({ id, ok: true, result })));
  } catch (error) {
    const refusal = refusalOf(error);
    report(method, refusal);
    socket.write(encodeFrame(encodeAnswer({ id, ok: false, ...refusal })));
  }
}

async function perform(signer: BoundedSigner, visit: Visit, { method, params }: Request): Promise<CborValue> {
  switch (method) {
    case "state":
      return encodeStatus(signer);
    case "trust":
      await signer.trust(decodeParams.trust(params));
      return encodeStatus(signer);
    case "batch":
      visit.batch = signer.openBatch(decodeParams.batch(params));
      return ++visit.batches;
    case "bodies": {
      const { batch, bodies } = decodeParams.bodies(params);
      const open = openBatch(visit, batch);
      open.add(bodies);
      return open.count;
    }
    case "tokens": {
      const { batch, from, count } = decodeParams.tokens(params);
      return openBatch(visit, batch).sign(from, count);
    }
    case "append":
      return signer.append(decodeParams.append(params));
    case "statement":
      return signer.statement(decodeParams.statement(params));
    case "transcript":
      await signer.transcript(decodeParams.transcript(params));
      return encodeStatus(signer);
    case "metadata":
      return encodeTufSignatures(await signer.metadata(decodeParams.metadata(params)));
  }
}

function openBatch({ batch, batches }: Visit, number: number): OpenBatch {
  if (!batch || number !== batches)
    throw new VerificationError("ERR_SIGNER_ORDER", `batch ${number} is not open on this connection`);
  return batch;
}
