/** Stations: fetch the sealed kit of a published batch, and bring back receipts. */
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import {
  BATCH_TOKENS_MAX,
  formatHex,
  OperationError,
  parseBase64,
  parseHex,
  RECEIPT_BYTES_MAX,
  TOKEN_LEAF_BYTES,
} from "@viafabric/schemas";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { authorOf } from "../auth.ts";
import { verifyReceipts } from "../receipts.ts";
import type { KitRecord } from "../records.ts";
import { base64, HEX_16, list, object, type Paths, responses, SECONDS, WHOLE } from "./fields.ts";

/** Receipts in one request. */
const RECEIPTS_MAX = 1000;
const RECEIPTS_BYTES_MAX = RECEIPTS_MAX * 2 * RECEIPT_BYTES_MAX;
const X25519_BYTES = 32;

export function kitRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.post<{ Body: { batch: number; publicKey: string } }>(
    "/kits",
    {
      config: { who: ["station"] },
      schema: {
        summary: "The station's part of a published batch, sealed to a key of its own",
        body: object({ batch: WHOLE, publicKey: base64(X25519_BYTES) }),
        response: responses(
          object({ id: HEX_16, first: WHOLE, count: WHOLE, created: SECONDS, kit: { type: "string" } }),
        ),
      },
    },
    async (request) => {
      const { sender, key } = authorOf(request);
      const publicKey = parseBase64(request.body.publicKey, X25519_BYTES);
      const kit = await store.kitOf(key.kid, request.body.batch);
      if (!kit) throw new OperationError("ERR_NOT_FOUND", `no kit of batch ${request.body.batch} is for this station`);
      // Spent before anything secret is opened: a replayed request gets nothing.
      await store.change(sender, async () => {});
      const sealed = await deps.sealKit(kit, publicKey);
      return { id: formatHex(kit.id), first: kit.first, count: kit.count, created: kit.created, kit: sealed };
    },
  );

  app.post<{ Params: Paths; Body: { receipts: string[] } }>(
    "/kits/:id/receipts",
    {
      config: { who: ["station"] },
      bodyLimit: RECEIPTS_BYTES_MAX,
      schema: {
        summary: "Write receipts, in the order of their chain",
        params: object({ id: HEX_16 }),
        body: object({ receipts: list(base64(RECEIPT_BYTES_MAX), RECEIPTS_MAX, 1) }),
        response: responses(object({ added: WHOLE, held: WHOLE })),
      },
    },
    async (request) => {
      const { sender, key } = authorOf(request);
      const kit = await store.kit(parseHex(request.params.id, 16));
      if (!kit || formatHex(kit.station) !== formatHex(key.kid))
        throw new OperationError("ERR_NOT_FOUND", `this station has no kit ${request.params.id}`);
      const files = request.body.receipts.map((text) => parseBase64(text));
      const payloadHash = await payloadHashes(deps, kit);
      const { authority } = deps.trust();
      return store.change(sender, async (change) => {
        const held = await change.lockReceipts(kit.id);
        const added = verifyReceipts({ authority, kit, held, payloadHash }, key, files, deps.now());
        await change.addReceipts(added);
        return { added: added.length, held: held.length + added.length };
      });
    },
  );
}

/** From the published leaves: 01 ‖ u64 index ‖ H(rct_id) ‖ H(payload). */
async function payloadHashes(deps: AppDependencies, kit: KitRecord): Promise<(index: number) => Uint8Array> {
  const batch = await deps.store.batch(kit.manifestHash);
  const file = path.join(deps.publicFolder, "batch", String(batch!.seq), "leaves.bin");
  const leaves = await readFileBounded(file, BATCH_TOKENS_MAX * TOKEN_LEAF_BYTES);
  return (index) => {
    const end = (index - batch!.first + 1) * TOKEN_LEAF_BYTES;
    return leaves.subarray(end - 32, end);
  };
}
