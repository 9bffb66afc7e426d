/** A pool on a bad device, and what must hold of it whatever goes wrong. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { isValidSignature, type PublicKey, utf8 } from "@viafabric/schemas";
import {
  generateKeys,
  type Hsm,
  initSoftHsmToken,
  openHsm,
  type Recovery,
  type SigningPool,
  type SoftHsmToken,
} from "./index.ts";
import { buildShim, type Faults, type Shim } from "./shim-testkit.ts";

/** One of each kind: the driver, the device, the session, its handles, its operation, the login. */
export const EIGHT_CODES = [0x5, 0x6, 0x30, 0x32, 0xb3, 0xb0, 0x82, 0x101];

export class BadDevice {
  readonly token: SoftHsmToken;
  readonly shim: Shim;
  readonly key: PublicKey;
  readonly recoveries: Recovery[] = [];
  readonly #folder: string;

  private constructor(folder: string, token: SoftHsmToken, shim: Shim, key: PublicKey) {
    this.#folder = folder;
    this.token = token;
    this.shim = shim;
    this.key = key;
  }

  /** Sets SOFTHSM2_CONF of this process. */
  static async create(): Promise<BadDevice> {
    const folder = await mkdtemp(path.join(tmpdir(), "bad-device-"));
    const token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "bad" });
    const [key] = await generateKeys(token, [{ id: KEY_ID, label: "issuer", algorithm: "ed25519" }]);
    process.env.SOFTHSM2_CONF = token.confFile;
    return new BadDevice(folder, token, await buildShim(folder, token.module), key!);
  }

  async remove(): Promise<void> {
    this.shim.close();
    await rm(this.#folder, { recursive: true });
  }

  /** Opens the good device, and makes it bad once the threads have their sessions. */
  async withPool(workers: number, faults: Faults, work: (pool: SigningPool, hsm: Hsm) => Promise<void>): Promise<void> {
    this.shim.set({});
    this.recoveries.length = 0;
    const hsm = await openHsm({ ...this.token, module: this.shim.module }, (r) => this.recoveries.push(r));
    try {
      const pool = await hsm.pool(KEY_ID, this.key, workers);
      await pool.signAll(messagesOf(workers * 4));
      this.shim.set(faults);
      await work(pool, hsm);
    } finally {
      this.shim.set({});
      await hsm.close();
    }
  }

  /** None lost, none twice, none unverified. */
  assertWhole(messages: readonly Uint8Array[], signatures: readonly Uint8Array[]): void {
    assert.equal(signatures.length, messages.length);
    messages.forEach((message, i) => {
      assert.ok(isValidSignature(this.key, message, signatures[i]!), `signature ${i}`);
    });
    assert.equal(new Set(signatures.map((signature) => Buffer.from(signature).toString("hex"))).size, messages.length);
  }
}

export const KEY_ID = utf8("issuer");

export function messagesOf(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => utf8(`message ${i} `.repeat(15)));
}
