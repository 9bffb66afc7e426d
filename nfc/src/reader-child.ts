/**
 * The process of one reader: the only place that loads nfc-pcsc.
 *
 * A process of its own because the package's natives hang for ever when a reader does, block the thread while they
 * connect, and abort in worker threads. The parent sets the deadlines and kills this process when one passes.
 *
 *     reader-child.js LAST-TAG-NUMBER [READER NAME]
 */
import type { NFC, Reader } from "nfc-pcsc";
import type { PcscProblem, ReaderReport, ReaderRequest } from "./reader-protocol.ts";

/** The longest answer: 255 bytes and the status. */
const ANSWER_BYTES_MAX = 257;
/** A tag that is felt is connected within a few milliseconds, or not at all. */
const POWER_UP_MS_MAX = 1000;
/** PC/SC codes that mean the tag is not there any more: removed, reset, no card, reader unavailable. */
const GONE = /0x(80100069|80100068|8010000c|80100017)|not connected|no card/i;

const lastTag = Number(process.argv[2]);
const wantedName = process.argv[3];

process.once("disconnect", () => process.exit(0));
await main();

async function main(): Promise<void> {
  const nfc = await openNfc();
  if (!nfc) return;
  let chosen: Reader | undefined;
  nfc.on("reader", (reader: Reader) => {
    if (chosen || (wantedName !== undefined && reader.name !== wantedName)) {
      report({ kind: "seen", name: reader.name });
      reader.on("error", () => {});
      return;
    }
    chosen = reader;
    serve(reader);
  });
  // The service went away, or refused: the parent starts anew when it needs the reader again.
  nfc.on("error", () => process.exit(1));
}

async function openNfc(): Promise<NFC | undefined> {
  try {
    const { NFC } = await import("nfc-pcsc");
    return new NFC();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    report({ kind: "unavailable", cause: problemOf(error, reason), reason });
    return undefined;
  }
}

function problemOf(error: unknown, reason: string): PcscProblem {
  const code = (error as NodeJS.ErrnoException).code;
  if (/locate the bindings file/i.test(reason)) return "not-built";
  if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return "module-missing";
  if (code === "ERR_DLOPEN_FAILED") return "library-missing";
  return "service";
}

function serve(reader: Reader): void {
  const raw = reader.reader;
  let tag = lastTag;
  /** A tag is felt, by the last status report. */
  let felt = false;
  /** It is connected, and the parent knows of it. */
  let present = false;
  let insertions = 0;
  let powerUp: NodeJS.Timeout | undefined;

  const announce = async (): Promise<void> => {
    // Still connected to a tag that is gone, the library believes itself connected to the next, without a protocol.
    if (typeof reader.connection?.protocol !== "number") await reconnect(reader);
    clearTimeout(powerUp);
    // It may have been taken away while it was being connected.
    if (!felt) return;
    present = true;
    report({ kind: "tag", tag: ++tag });
  };
  const removed = (): void => {
    clearTimeout(powerUp);
    present = false;
    report({ kind: "removed" });
  };
  const unpowered = (): void => {
    clearTimeout(powerUp);
    if (felt) report({ kind: "unpowered" });
  };

  serialize(reader);
  reader.autoProcessing = false;
  reader.on("card", () => void announce().catch(unpowered));
  reader.on("error", () => {});
  reader.on("end", () => report({ kind: "unplugged" }));
  // Below the library's own events, which miss two things: a tag that cannot be powered gives no event at all, and
  // a swap between two status reports looks like no change. The upper half of the state counts the insertions.
  raw.on("status", ({ state }: { readonly state: number }) => {
    const before = { felt, insertions };
    felt = (state & raw.SCARD_STATE_PRESENT) !== 0;
    insertions = state >>> 16;
    if (!felt) {
      if (before.felt) removed();
    } else if (!before.felt) {
      powerUp = setTimeout(unpowered, POWER_UP_MS_MAX);
    } else if (insertions !== before.insertions) {
      removed();
      void reconnect(reader).then(announce).catch(unpowered);
    }
  });
  process.on("message", (request: ReaderRequest) => {
    void perform(reader, request, () => present && request.tag === tag);
  });
  report({ kind: "ready", name: reader.name });
}

async function perform(reader: Reader, request: ReaderRequest, isCurrent: () => boolean): Promise<void> {
  const { id } = request;
  if (!isCurrent()) return report({ kind: "failed", id, gone: true, reason: "the tag was taken away" });
  try {
    if (request.kind === "reconnect") {
      await reconnect(reader);
      return report({ kind: "answer", id, bytes: new Uint8Array(0) });
    }
    const answer = await reader.transmit(Buffer.from(request.apdu), ANSWER_BYTES_MAX);
    return report({ kind: "answer", id, bytes: new Uint8Array(answer) });
  } catch (error) {
    const { message, previous } = error as Error & { readonly previous?: Error };
    const reason = previous ? `${message} ${previous.message}` : message;
    return report({ kind: "failed", id, gone: GONE.test(reason), reason });
  }
}

/**
 * The library connects and disconnects as reports come in, without waiting for what it began before. On libuv's
 * threads the two overtake each other, and a late disconnect then ends the connection to the next tag.
 */
function serialize(reader: Reader): void {
  let tail: Promise<unknown> = Promise.resolve();
  const queued = (work: () => Promise<unknown>) => () => {
    const result = tail.then(() => work.call(reader));
    tail = result.catch(() => {});
    return result;
  };
  reader.connect = queued(reader.connect);
  reader.disconnect = queued(reader.disconnect);
}

async function reconnect(reader: Reader): Promise<void> {
  if (reader.connection) await reader.disconnect();
  await reader.connect();
}

function report(message: ReaderReport): void {
  // The parent is gone when there is no channel, or it breaks now; `disconnect` ends this process.
  if (process.connected) process.send!(message, undefined, undefined, () => {});
}
