/**
 * `node authority-testkit.js FOLDER TOKENS`: an authority with ten batches and so many tokens, as its published tree in
 * `FOLDER/public` with the root to pin in `FOLDER/root.json`. A program of its own, because it takes minutes.
 *
 * Its life: each batch is released in part, some tokens are suspended, revoked and reinstated, and half-way the
 * trustees change.
 */
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { KEYS, seededSigner, TestAuthority, TRUSTEES } from "./fixtures.test.ts";

const BATCHES = 10;
/** Tokens revoked of each batch, far from each other. */
const REVOKED = 12;

async function live(tokens: number): Promise<TestAuthority> {
  const authority = await TestAuthority.found();
  let trustees = TRUSTEES;
  const count = Math.floor(tokens / BATCHES);
  for (let seq = 0; seq < BATCHES; seq++) {
    const first = authority.head.next;
    await authority.batch(count);
    await authority.state();
    await authority.event("release", [[first, count - Math.floor(count / (seq + 3))]], [KEYS.release]);
    const suspended = await authority.event("suspend", [[first, 10]], [trustees[0]!]);
    const apart = Math.floor(count / (REVOKED + 1));
    const revoked = Array.from({ length: REVOKED }, (_, i) => [first + (i + 1) * apart, 1] as const);
    await authority.event("revoke", revoked, trustees.slice(1, 4));
    await authority.state();
    await authority.event("reinstate", [[first, 10]], trustees.slice(0, 3), [suspended]);
    if (seq === BATCHES / 2 - 1) {
      trustees = [...TRUSTEES.slice(1), seededSigner("trustee 6")];
      await authority.rotateRoot(trustees);
      await authority.signTargets();
    }
    await authority.state();
    process.stderr.write(`batch ${seq + 1} of ${BATCHES}\n`);
  }
  return authority;
}

async function main(folder: string, tokens: number): Promise<void> {
  const authority = await live(tokens);
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, "root.json"), authority.root);
  for (const [name, bytes] of await authority.publish()) {
    const file = path.join(folder, "public", name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
  }
}

const [folder, tokens] = process.argv.slice(2);
if (!folder || !tokens) throw new Error("node authority-testkit.js FOLDER TOKENS");
await main(folder, Number(tokens));
