/** What this room's tests share: reproducible bytes, blank tags. Not part of what the room exports. */
import { FormatError } from "@viafabric/schemas";
import { factoryDump, type TagModel } from "./tag-model.ts";

/** A small generator (xorshift32), so that a printed seed repeats a failure. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

export function seedOf(name: string): number {
  const seed = Date.now() >>> 0;
  console.log(`# ${name}: seed ${seed}`);
  return seed;
}

/** Reproducible bytes that are neither all equal nor all different. */
export function bytes(length: number, seed: number): Uint8Array {
  const next = random(seed);
  return Uint8Array.from({ length }, () => next(256));
}

export function blankDump(model: TagModel, uid: Uint8Array = new Uint8Array([4, 1, 2, 3, 4, 5, 6])): Uint8Array {
  return factoryDump(model, uid);
}

export function isFormatError(code?: string): (error: unknown) => boolean {
  return (error) => error instanceof FormatError && (code === undefined || error.code === code);
}
