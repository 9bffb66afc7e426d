/**
 * NFC readers through PC/SC: tags come and go, and each call ends in time. There is one implementation; tests run
 * it against the simulator's PC/SC service instead of replacing it.
 */
import { OperationError } from "@viafabric/schemas";
import { type FieldState, type ReaderOptions, ReaderProcess } from "./reader-process.ts";
import { openTag, type TagReader } from "./tag.ts";

export * from "./read.ts";
export { DEFAULT_PCSC_SOCKET, type ReaderOptions } from "./reader-process.ts";
export type { TagReader } from "./tag.ts";
export * from "./write.ts";

export interface NfcReader {
  readonly name: string;
  /**
   * The tag that lies on the reader, now or as soon as one is laid down. Starts the reader's process again if it
   * was killed at a deadline, or the reader was unplugged and is back.
   * @throws OperationError ERR_NO_PCSC, ERR_NO_READER; the signal's reason when it is aborted
   */
  waitForTag(signal?: AbortSignal): Promise<TagReader>;
  /** Resolves when the tag given out last is gone, be it with the reader itself; at once when there was none. */
  waitForRemoval(signal?: AbortSignal): Promise<void>;
  /** Resolves when no tag at all lies on the reader: not the one given, and none that took its place. */
  waitForEmpty(signal?: AbortSignal): Promise<void>;
  close(): void;
}

export interface OpenReaderOptions extends ReaderOptions {
  /** A tag is felt but cannot be powered: ask the person to lay it down again. */
  readonly onUnpowered?: () => void;
}

/** @throws OperationError ERR_NO_PCSC with what to install, ERR_NO_READER */
export async function openReader(options: OpenReaderOptions): Promise<NfcReader> {
  const field = watchField(options.onUnpowered);
  const child = new ReaderProcess(options, field.set);
  const name = await child.start();
  let given: number | undefined;
  return {
    name,
    async waitForTag(signal) {
      await child.start();
      const state = await field.until((now) => now === undefined || now.kind === "tag", signal);
      if (state?.kind !== "tag") throw new OperationError("ERR_NO_READER", "the reader is gone", { retryable: true });
      const { tag } = state;
      given = tag;
      return openTag({ transmit: (apdu) => child.transmit(tag, apdu), reconnect: () => child.reconnect(tag) });
    },
    async waitForRemoval(signal) {
      await field.until((now) => now?.kind !== "tag" || now.tag !== given, signal);
    },
    async waitForEmpty(signal) {
      await field.until((now) => now?.kind !== "tag", signal);
    },
    close: () => child.kill(),
  };
}

interface Field {
  set(state: FieldState | undefined): void;
  /** The first state, the present one included, that satisfies the condition. */
  until(condition: (state: FieldState | undefined) => boolean, signal?: AbortSignal): Promise<FieldState | undefined>;
}

function watchField(onUnpowered: (() => void) | undefined): Field {
  let state: FieldState | undefined;
  const watchers = new Set<() => void>();
  return {
    set(next) {
      state = next;
      if (next?.kind === "unpowered") onUnpowered?.();
      for (const watcher of [...watchers]) watcher();
    },
    until(condition, signal) {
      return new Promise((resolve, reject) => {
        const done = () => {
          watchers.delete(check);
          signal?.removeEventListener("abort", abort);
        };
        const check = () => {
          if (!condition(state)) return;
          done();
          resolve(state);
        };
        const abort = () => {
          done();
          reject(signal?.reason);
        };
        if (signal?.aborted) return reject(signal.reason);
        signal?.addEventListener("abort", abort);
        watchers.add(check);
        check();
      });
    },
  };
}
