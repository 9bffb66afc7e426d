import assert from "node:assert/strict";
import { mkdir, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import { CodedError, equalBytes, formatHex, type PublicKey, sha256 } from "@viafabric/schemas";
import { assemble, buildRoot, parseMetadata, parseSigned, signMetadata } from "@viafabric/tuf";
import { enroll, reviewEnrolment } from "./commands.ts";
import {
  DAY,
  NOW,
  namedSigner,
  PASSPHRASE,
  read,
  removeTemplate,
  SECRET,
  THRESHOLD,
  withGenesis,
  write,
} from "./fixtures.test.ts";
import { openSigner } from "./home.ts";
import { inspect, isComplete, readCards } from "./inspect.ts";
import { withWorld } from "./world.test.ts";

after(removeTemplate);

test("a genesis folder tells who signed and who is missing, from the first card to the last signature", () =>
  withGenesis(async (_folder, homes, genesis) => {
    for (const [signed, home] of [undefined, ...homes].entries()) {
      if (home) await enroll(home, genesis, await reviewEnrolment(home, genesis, NOW), SECRET, NOW);
      const inspected = await inspect([genesis], {});
      assert.deepEqual(
        inspected.map(({ role, quorums: [state], useless }) => [role, state!.signed.length, useless]),
        ["root", "targets", "batches"].map((role) => [role, signed, 0]),
      );
      assert.ok(inspected.every((each) => isComplete(each, NOW) === signed >= THRESHOLD));
      assert.ok(inspected.every(({ quorums: [state] }) => state!.missing.length === homes.length - signed));
    }
    const [root] = await inspect([genesis], {});
    assert.deepEqual(root!.authority, sha256(await read(path.join(genesis, "root.json"))));
    const [first, second] = (await readdir(path.join(genesis, "signatures"))).map((name) =>
      path.join(genesis, "signatures", name),
    );
    await write(first!, await read(second!));
    assert.equal((await inspect([genesis], {}))[0]!.quorums[0]!.signed.length, homes.length - 1, "a copy is no person");
    const foreign = buildRoot({ ...parseSigned("root", await read(path.join(genesis, "root.json"))), version: 2 });
    await write(path.join(genesis, "root.json"), foreign);
    await assert.rejects(inspect([genesis], {}), (error) => (error as CodedError).code === "ERR_PROPOSAL_MISMATCH");
  }));

test("metadata files explain each other, and a file alone says that nobody is known", () =>
  withWorld(async ({ folder, genesis }) => {
    const metadata = path.join(folder, "public", "tuf", "metadata");
    const at = (name: string) => path.join(metadata, name);
    const names = ["timestamp.json", "1.snapshot.json", "1.batches.json", "1.targets.json", "1.root.json"];
    const inspected = await inspect(names.map(at), {});
    assert.deepEqual(inspected.map(({ role, quorums }) => `${role} ${quorums.length}`).sort(), [
      "batches 1",
      "root 1",
      "snapshot 1",
      "targets 1",
      "timestamp 1",
    ]);
    assert.ok(inspected.every((each) => isComplete(each, NOW)));
    assert.ok(
      inspected.every((each) => !isComplete(each, NOW + 1000 * DAY)),
      "an expired file is not complete",
    );
    const [alone] = await inspect([at("1.batches.json")], {});
    assert.deepEqual(alone!.quorums, []);
    assert.equal(isComplete(alone!, NOW), false, "nobody's threshold is never met");
    const cards = await readCards(path.join(genesis, "cards"));
    const known = new Set(cards.map(({ key }) => formatHex(key.kid)));
    const [root] = inspected;
    for (const { kid } of root!.quorums[0]!.signed) assert.ok(known.has(formatHex(kid)));
  }));

test("a rotation of root is due from those who leave and from those who come", () =>
  withWorld(async ({ folder, homes, genesis }) => {
    const first = path.join(folder, "public", "tuf", "metadata", "1.root.json");
    const { roles } = parseSigned("root", await read(path.join(genesis, "root.json")));
    const [leaver, stayer] = await Promise.all(homes.slice(0, 2).map((home) => openSigner(home, PASSPHRASE)));
    const newcomer = namedSigner("newcomer");
    const isLeaver = ({ kid }: PublicKey) => equalBytes(kid, leaver!.publicKey.kid);
    const staying = roles.root.keys.filter((key) => !isLeaver(key));
    const role = { keys: [...staying, newcomer.publicKey], threshold: THRESHOLD };
    const signed = buildRoot({ version: 2, expires: NOW + 700 * DAY, roles: { ...roles, root: role } });
    const second = path.join(folder, "2.root.json");
    for (const [signers, counts, complete] of [
      [[stayer!, newcomer], [1, 2], false],
      [[leaver!, stayer!], [2, 1], false],
      [[leaver!, stayer!, newcomer], [2, 2], true],
    ] as const) {
      await write(second, assemble(signed, await Promise.all(signers.map((signer) => signMetadata(signer, signed)))));
      const [, rotated] = await inspect([second, first], {});
      assert.equal(rotated!.version, 2);
      assert.deepEqual(
        rotated!.quorums.map((state) => state.signed.length),
        counts,
      );
      assert.equal(isComplete(rotated!, NOW), complete);
    }
  }));

test("a signature that is wrong counts for nothing", () =>
  withWorld(async ({ folder }) => {
    const file = path.join(folder, "public", "tuf", "metadata", "1.root.json");
    const { signatures } = parseMetadata("root", await read(file));
    const text = Buffer.from(await read(file)).toString();
    const [one, two] = signatures.map(({ sig }) => formatHex(sig));
    await write(file, Buffer.from(text.replace(one!, two!)));
    const [inspected] = await inspect([file], {});
    assert.equal(inspected!.useless, 1);
    assert.equal(isComplete(inspected!, NOW), false);
    await write(file, Buffer.from('{"signatures":[],"signed":7}'));
    await assert.rejects(inspect([file], {}), (error) => (error as CodedError).code === "ERR_METADATA");
    const empty = path.join(folder, "empty");
    await mkdir(empty);
    await assert.rejects(inspect([empty], {}), (error) => error instanceof CodedError);
    await rm(file);
    await assert.rejects(inspect([file], {}), (error) => (error as CodedError).code === "ERR_FILE");
  }));
