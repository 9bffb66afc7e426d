import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { isValidSignature, OperationError, utf8 } from "@viafabric/schemas";
import { createKeystore, openKeystore, readKeystorePublicKey } from "./keystore.ts";

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "keystore-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const refusedWith = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

test("a key comes back from its file, and only with its passphrase", () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "keystore.json");
    const created = await createKeystore(file, "five ordinary words, caf\u00e9");
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.deepEqual((await readKeystorePublicKey(file)).spki, created.publicKey.spki);
    const opened = await openKeystore(file, "five ordinary words, cafe\u0301");
    const message = utf8("message");
    assert.ok(isValidSignature(created.publicKey, message, await opened.sign(message)));
    await assert.rejects(openKeystore(file, "five ordinary words, cafe"), refusedWith("ERR_PASSPHRASE"));
  }));

test("a key is never overwritten", () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "keystore.json");
    await createKeystore(file, "first");
    const before = await readFile(file);
    await assert.rejects(createKeystore(file, "second"), refusedWith("ERR_HOME"));
    assert.deepEqual(await readFile(file), before);
  }));

test("an empty passphrase, a missing file and an edited file are refused", () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "keystore.json");
    await assert.rejects(createKeystore(file, ""), refusedWith("ERR_PASSPHRASE"));
    await assert.rejects(openKeystore(file, "p"), refusedWith("ERR_HOME"));
    await createKeystore(file, "p");
    const text = await readFile(file, "utf8");
    for (const edited of [text.replace("131072", "2"), text.replace('"keystore": 1', '"keystore": 2'), "{", "null"]) {
      await writeFile(file, edited);
      await assert.rejects(openKeystore(file, "p"), refusedWith("ERR_HOME"));
    }
  }));
