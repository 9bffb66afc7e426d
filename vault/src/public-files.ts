/**
 * The published tree over HTTP, for a laptop: nginx or a CDN serves the same folder at scale.
 *
 * Names are validated before any path is made. Immutable files are kept in memory up to a bound and may be cached for
 * ever; the three pointers, the hints and the proofs are read each time and never cached.
 */
import path from "node:path";
import { readFileIfPresent } from "@viafabric/platform";
import { entityTag } from "@viafabric/transparency-log/client";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { CHECKPOINT_PATH, STATUS_PATH, TIMESTAMP_PATH } from "./publisher.ts";

/** The largest published file is leaves.bin or tokens.bin of 100,000 tokens. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;
const CACHE_BYTES_MAX = 64 * 1024 * 1024;
/** Larger files come from the disk each time: one of them must not push a thousand tiles out. */
const CACHED_FILE_BYTES_MAX = 1024 * 1024;
const PATH_LENGTH_MAX = 256;
/** Letters, digits, `_`, `-`; then also dots. No segment begins with a dot, so none climbs or hides. */
const PATH = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$/;
const POINTERS: ReadonlySet<string> = new Set([CHECKPOINT_PATH, TIMESTAMP_PATH, STATUS_PATH]);
/** Hints, and proofs, which are made again when other witnesses count. */
const REPLACED = /^(?:batches\/list\/|revocation\/event\/|batch\/[0-9]+\/log\.proof$)/;

interface CachedFile {
  readonly etag: string;
  readonly bytes: Uint8Array;
}

export function servePublicFiles(app: FastifyInstance, folder: string, prefix = "/public/"): void {
  const cache = new Map<string, CachedFile>();
  let cachedBytes = 0;

  const read = async (name: string): Promise<CachedFile | undefined> => {
    const known = cache.get(name);
    if (known) return known;
    const bytes = await readFileIfPresent(path.join(folder, name), FILE_BYTES_MAX).catch(() => undefined);
    if (!bytes) return undefined;
    const file = { etag: entityTag(bytes), bytes };
    if (isMutable(name) || bytes.length > CACHED_FILE_BYTES_MAX) return file;
    cache.set(name, file);
    cachedBytes += bytes.length;
    for (const [oldest, { bytes: old }] of cache) {
      if (cachedBytes <= CACHE_BYTES_MAX) break;
      cache.delete(oldest);
      cachedBytes -= old.length;
    }
    return file;
  };

  const serve = async (request: FastifyRequest<{ Params: { "*": string } }>, reply: FastifyReply) => {
    const name = request.params["*"];
    // Public data for every web page and every tool, whatever it was loaded from.
    reply.header("access-control-allow-origin", "*").header("cross-origin-resource-policy", "cross-origin");
    const file = name.length <= PATH_LENGTH_MAX && PATH.test(name) ? await read(name) : undefined;
    if (!file) return reply.header("cache-control", "no-store").callNotFound();
    reply.header("cache-control", isMutable(name) ? "no-store" : "public, max-age=31536000, immutable");
    reply.header("etag", file.etag).type(typeOf(name));
    if (request.headers["if-none-match"] === file.etag) return reply.code(304).send();
    return reply.send(Buffer.from(file.bytes.buffer, file.bytes.byteOffset, file.bytes.length));
  };

  // An auditor reads the whole log in one go; counting is for the routes that cost something.
  app.get(`${prefix}*`, { config: { rateLimit: false }, schema: { hide: true } }, serve);
}

function isMutable(name: string): boolean {
  return POINTERS.has(name) || REPLACED.test(name);
}

function typeOf(name: string): string {
  if (name.endsWith(".json")) return "application/json";
  const text = POINTERS.has(name) || /\.(?:txt|vkey|proof)$/.test(name) || /\/(?:list|undo)\//.test(name);
  return text ? "text/plain; charset=utf-8" : "application/octet-stream";
}
