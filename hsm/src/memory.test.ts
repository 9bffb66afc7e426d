/**
 * What is left of a secret in the memory of a running signer, searched for as root can: every readable mapping, after
 * the login and after it has signed. A string that is planted in the same process must be found, or the search would
 * find nothing for another reason.
 */
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { formatHex, utf8 } from "@viafabric/schemas";
import { softSigner, TestAuthority } from "./signer/testkit.test.ts";
import { connect, type SignerClient, type SignerProcess, startSigner } from "./signer-client.ts";
import type { SoftHsmToken } from "./softhsm.ts";

const CHUNK_BYTES = 16 * 1024 * 1024;
/** Guard pages and unreserved ranges are listed too; a signer has nothing of this size. */
const MAPPING_BYTES_MAX = 2 ** 34;

/** How often `needle` stands in the memory of a process, in Latin-1 or in UTF-16 as JavaScript may hold it. */
function copiesIn(pid: number, needle: string): number {
  const spellings = [Buffer.from(needle, "latin1"), Buffer.from(needle, "utf16le")];
  const memory = openSync(`/proc/${pid}/mem`, "r");
  let found = 0;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const [start, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)];
      if (end - start > MAPPING_BYTES_MAX || !Number.isSafeInteger(end)) continue;
      found += copiesBetween(memory, start, end, spellings);
    }
  } finally {
    closeSync(memory);
  }
  return found;
}

function copiesBetween(memory: number, start: number, end: number, spellings: readonly Buffer[]): number {
  // The end of one chunk is read again with the next: a copy may lie across both.
  const overlap = Math.max(...spellings.map(({ length }) => length)) - 1;
  const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, end - start) + overlap);
  let found = 0;
  for (let at = start; at < end; at += CHUNK_BYTES) {
    const read = readable(memory, buffer, at, Math.min(CHUNK_BYTES + overlap, end - at));
    for (const spelling of spellings)
      for (let hit = buffer.indexOf(spelling); hit >= 0 && hit + spelling.length <= read; ) {
        found++;
        hit = buffer.indexOf(spelling, hit + 1);
      }
  }
  return found;
}

/** Some mappings may be listed and not read: devices, and what was unmapped since. */
function readable(memory: number, buffer: Buffer, at: number, length: number): number {
  buffer.fill(0);
  try {
    return readSync(memory, buffer, 0, length, at);
  } catch {
    return 0;
  }
}

let authority: TestAuthority;
let process: SignerProcess;
let signer: SignerClient;

before(async () => {
  authority = await TestAuthority.create();
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
});

after(async () => {
  await signer.close();
  await process.stop();
  await authority.remove();
});

test("a signer holds no copy of its PIN after the login, nor after signing; a planted string is found", async () => {
  const { pinFile } = authority.config.hsm as SoftHsmToken;
  const pin = (await readFile(pinFile, "utf8")).trim();
  assert.ok(pin.length >= 32, "long enough that chance makes no copy");
  assert.equal(copiesIn(process.pid, pin), 0, "after the login");

  // What the signer is asked stays in its memory for a while: the search must see that.
  const planted = formatHex(softSigner("planted").publicKey.raw);
  await assert.rejects(signer.metadata({ role: "snapshot", signed: utf8(planted) }));
  assert.ok(copiesIn(process.pid, planted) > 0, "the search finds what is there");
  assert.ok(copiesIn(globalThis.process.pid, pin) > 0, "and this process, which has read the file, holds the PIN");

  await signer.trust(await authority.trustRequest());
  const entries = [
    authority.trustLeaf("root", 1, authority.rootFile),
    authority.trustLeaf("targets", 1, authority.targetsFile),
    authority.trustLeaf("batches", 1, authority.batches),
  ];
  await signer.append({ from: 0, entries });
  await signer.statement();
  assert.equal(copiesIn(process.pid, pin), 0, "after signing");
});

test("a PIN is in neither the arguments nor the environment of the signer", async () => {
  const { pinFile } = authority.config.hsm as SoftHsmToken;
  const pin = (await readFile(pinFile, "utf8")).trim();
  for (const name of ["cmdline", "environ"])
    assert.ok(!(await readFile(`/proc/${process.pid}/${name}`, "latin1")).includes(pin), name);
});
