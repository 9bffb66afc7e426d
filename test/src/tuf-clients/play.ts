/**
 * Plays the golden repositories to a client, step by step, and compares what it says with the index.
 *
 * A refusal counts only for the expected reason and an acceptance only with the expected bytes. Anything else, a failed
 * connection included, is a failed test.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { STATEMENT_PATH } from "@viafabric/tuf";
import type { Index, IndexedRepository, IndexedStep } from "../tuf-golden/index.ts";
import type { Client } from "../tuf-golden/repository.ts";
import { cutStore, type Outcome, type VisitRepository } from "./client.ts";
import { type Alter, openStaticServer, type StaticServer } from "./server.ts";

export const GOLDEN = fileURLToPath(new URL("../../vectors/tuf/", import.meta.url));

export function goldenIndex(): Index {
  return JSON.parse(readFileSync(path.join(GOLDEN, "index.json"), "utf8")) as Index;
}

interface Setting {
  readonly server: StaticServer;
  /** An empty folder of this test. */
  readonly folder: string;
  readonly visit: VisitRepository;
  readonly now: number;
}

/** Registers one test for each repository, and negative controls. */
export function testClient(client: Client, visit: VisitRepository, skip: string | false = false): void {
  const { now, repositories } = goldenIndex();
  const claim = (name: string, body: (setting: Setting) => Promise<void>) =>
    test(`${client}: ${name}`, { skip }, async () => {
      const folder = await mkdtemp(path.join(tmpdir(), "viafabric-tuf-"));
      const server = await openStaticServer();
      try {
        await body({ server, folder, visit, now });
      } finally {
        await server.close();
        await rm(folder, { recursive: true });
      }
    });

  for (const repository of repositories)
    claim(repository.name, async (setting) => {
      const store = path.join(setting.folder, "store");
      for (const step of repository.steps) {
        const outcome = await play(setting, store, repository, step);
        assertExpected(client, `${repository.name}/${step.folder}`, step, outcome);
      }
    });

  const good = repositories.find(({ name }) => name === "good")!;
  const first = good.steps[0]!;

  claim("one changed bit in any file of a good repository is refused", async (setting) => {
    const read = new Set<string>();
    const listen: Alter = (name, bytes) => {
      read.add(name);
      return bytes;
    };
    assert.equal((await play(setting, path.join(setting.folder, "good"), good, first, listen)).verdict, "accept");
    assert.deepEqual([...read].sort(), filesToRead(client, path.join(GOLDEN, "good", first.folder)));
    for (const [i, changed] of [...read].entries()) {
      const flip: Alter = (name, bytes) => (name === changed ? flipBit(bytes) : bytes);
      const outcome = await play(setting, path.join(setting.folder, `store ${i}`), good, first, flip);
      assert.equal(outcome.verdict, "refuse", `${changed}: ${outcome.error}`);
    }
  });

  claim("a server that has nothing is not mistaken for a bad one", async (setting) => {
    const store = path.join(setting.folder, "store");
    const { verdict, error } = await play(setting, store, good, { ...first, folder: "nothing" });
    assert.equal(verdict, "error", error);
  });
}

async function play(
  { server, visit, now }: Setting,
  store: string,
  { name }: IndexedRepository,
  step: IndexedStep,
  alter?: Alter,
): Promise<Outcome> {
  server.serve(path.join(GOLDEN, name, step.folder), alter);
  await mkdir(store, { recursive: true });
  if (step.before === "power cut") await cutStore(store);
  const root = path.join(GOLDEN, name, "root.json");
  return visit({ store, root, url: server.url, read: server.read, targets: Object.keys(step.targets), now });
}

function assertExpected(client: Client, where: string, step: IndexedStep, outcome: Outcome): void {
  const { verdict, because } = step.verdicts[client];
  assert.equal(outcome.verdict, verdict, `${where}: ${outcome.error ?? "accepted"}`);
  if (because !== undefined) assert.ok(outcome.error?.includes(because), `${where}: refused, but ${outcome.error}`);
  if (verdict === "accept") assert.deepEqual(outcome.targets, expectedTargets(client, step), where);
}

/** Nodes of ours fetch the statement with its sets, not as a TUF target. */
function expectedTargets(client: Client, { targets }: IndexedStep): Readonly<Record<string, string>> {
  const wanted = Object.entries(targets).filter(([name]) => client !== "viafabric" || name !== STATEMENT_PATH);
  return Object.fromEntries(wanted);
}

/** Everything but root 1, which is pinned, and for ours the statement and its role. */
function filesToRead(client: Client, folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .filter((name) => !name.endsWith("1.root.json"))
    .filter((name) => client !== "viafabric" || !/revocations?[./]/.test(name))
    .sort();
}

function flipBit(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[Math.floor(copy.length * 0.37)]! ^= 1;
  return copy;
}
