import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { formatHex, formatWords, sha256 } from "@viafabric/schemas";
import { verifyEnrolmentCard } from "@viafabric/tuf";
import { fingerprint, LINEAGE, PASSPHRASE, removeTemplate, withGenesis } from "./fixtures.test.ts";
import { withWorld } from "./world.test.ts";

after(removeTemplate);

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Without a terminal, as a script would. */
function via(...args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (part: Buffer) => {
      out += part.toString();
    });
    child.stderr.on("data", (part: Buffer) => {
      err += part.toString();
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
  });
}

test("init, enroll, status, review, sign, reject and suspend from the command line", () =>
  withWorld(async (world) => {
    const secret = path.join(world.folder, "passphrase");
    await writeFile(secret, `${PASSPHRASE}\n`);
    const made = path.join(world.folder, "new");
    const init = await via("--json", "init", "--name", "Amina", "--home", made, "--passphrase-file", secret);
    assert.equal(init.code, 0, init.err);
    assert.equal(verifyEnrolmentCard(new Uint8Array(await readFile(path.join(made, "card.json")))).name, "Amina");
    const again = await via("init", "--name", "Amina", "--home", made, "--passphrase-file", secret);
    assert.equal(again.code, 4);
    assert.match(again.err, /ERR_HOME/);

    const at = (i: number) => [
      "--home",
      world.homes[i]!.folder,
      "--vault",
      world.url,
      "--public",
      path.join(world.folder, "public"),
    ];
    const first = await world.propose({ count: 7 });
    const { id } = first.event.proposal;
    const status = await via("--json", "status", ...at(0));
    assert.equal(status.code, 0, status.err);
    assert.deepEqual(
      JSON.parse(status.out).proposals.map((p: { words: string; needsMe: boolean }) => [p.words, p.needsMe]),
      [[formatWords(id), true]],
    );
    const shown = await via("review", formatHex(id), ...at(0));
    assert.equal(shown.code, 0, shown.err);
    for (const word of formatWords(id).split(" ")) assert.ok(shown.out.includes(word), "all 24 words are shown");
    assert.match(shown.out, /7 tokens, indices 0-6/);
    assert.match(shown.out, /edge-basic/);

    const before = await fingerprint(world.homes[0]!.folder);
    const silent = await via("sign", formatHex(id), ...at(0), "--passphrase-file", secret);
    assert.equal(silent.code, 1, "nobody said yes");
    assert.equal(first.event.approvals.length, 0);
    assert.deepEqual(await fingerprint(world.homes[0]!.folder), before);
    const rehearsed = await via("--json", "sign", formatHex(id), ...at(0), "--dry-run", "--yes");
    assert.equal(rehearsed.code, 0, rehearsed.err);
    assert.deepEqual([JSON.parse(rehearsed.out).dryRun, JSON.parse(rehearsed.out).batches[0].count], [true, 7]);
    const no = await via("reject", formatHex(id), "--reason", "x", ...at(0), "--dry-run");
    assert.match(no.out, /rehearsal/);
    assert.equal(first.event.approvals.length + first.event.rejections.length, 0);
    assert.deepEqual(await fingerprint(world.homes[0]!.folder), before);
    const signed = await via("--json", "sign", formatWords(id), ...at(0), "--passphrase-file", secret, "--yes");
    assert.equal(signed.code, 0, signed.err);
    assert.equal(JSON.parse(signed.out).batches[0].count, 7);
    assert.equal(first.event.approvals.length, 1);

    const second = await world.propose({ count: 9 });
    const twice = await via(
      "--json",
      "sign",
      formatHex(second.event.proposal.id),
      ...at(0),
      "--passphrase-file",
      secret,
      "--yes",
    );
    assert.equal(twice.code, 1);
    assert.equal(JSON.parse(twice.out).error, "ERR_PROPOSAL_TWICE");
    const rejected = await via(
      "reject",
      formatHex(second.event.proposal.id),
      "--reason",
      "one too many",
      ...at(0),
      "--passphrase-file",
      secret,
      "--yes",
    );
    assert.equal(rejected.code, 0, rejected.err);
    assert.equal(second.event.rejections[0]!.reason, "one too many");

    await via("sign", formatHex(id), ...at(1), "--passphrase-file", secret, "--yes");
    await world.publish(first);
    for (const action of ["suspend", "revoke"]) {
      const wish = ["--index", "2", "--reason", "lost", ...at(2), "--dry-run"];
      const { code, out, err } = await via("--json", action, ...wish);
      assert.equal(code, 0, err);
      assert.equal(JSON.parse(out).action, action);
    }
    assert.equal(world.statusEvents.size, 0);
    const suspended = await via(
      "--json",
      "suspend",
      "--index",
      "2,4-5",
      "--reason",
      "lost",
      ...at(2),
      "--passphrase-file",
      secret,
      "--yes",
    );
    assert.equal(suspended.code, 0, suspended.err);
    const rehearsal = await via("sign-event", JSON.parse(suspended.out).id, ...at(1), "--dry-run");
    assert.equal(rehearsal.code, 0, rehearsal.err);
    assert.match(rehearsal.out, /suspend 3 tokens/);
    assert.equal([...world.statusEvents.values()][0]!.signatures.size, 1);
    const joined = await via(
      "sign-event",
      JSON.parse(suspended.out).id,
      ...at(1),
      "--passphrase-file",
      secret,
      "--yes",
    );
    assert.equal(joined.code, 0, joined.err);
    assert.equal([...world.statusEvents.values()][0]!.signatures.size, 2);

    const third = await world.propose({ count: 2 });
    const file = path.join(world.folder, "proposals.via");
    const decision = path.join(world.folder, "decision.json");
    const exported = await via("export", formatHex(third.event.proposal.id), "--out", file, ...at(0));
    assert.equal(exported.code, 0, exported.err);
    const home = ["--home", world.homes[2]!.folder];
    const imported = await via("import", file, ...home);
    assert.equal(imported.code, 0, imported.err);
    assert.match(imported.out, /2 tokens/);
    assert.equal((await via("sign", "--from", file, ...home, "--yes")).code, 2, "there is no --out");
    assert.match((await via("review", "--from", file, ...home)).out, /2 tokens/);
    const secretly = ["--passphrase-file", secret];
    const offline = await via("sign", "--from", file, "--out", decision, ...home, ...secretly, "--yes");
    assert.equal(offline.code, 0, offline.err);
    const submitted = await via("submit", decision, ...at(1), ...secretly);
    assert.equal(submitted.code, 0, submitted.err);
    assert.equal(third.event.approvals.length, 1);

    const report = await via("status", ...at(0));
    assert.match(report.out, /half/);
    const metadata = (name: string) => path.join(world.folder, "public/tuf/metadata", name);
    const verified = await via("verify", metadata("2.batches.json"), world.genesis, ...home);
    assert.equal(verified.code, 0, verified.err);
    assert.match(verified.out, /batches 2: 2 of 2 needed, complete/);
    assert.match(verified.out, /Trustee 2/);
    const [paper, root] = [path.join(world.folder, "sheet.md"), path.join(world.folder, "1.root.json")];
    const pin = path.join(world.folder, "pin.txt");
    const outs = ["--out", paper, "--root-out", root, "--pin-out", pin];
    const sheet = await via("--json", "sheet", ...home, ...outs, "--domain", "a.example");
    assert.equal(sheet.code, 0, sheet.err);
    const printed = JSON.parse(sheet.out) as { authority: { hex: string; words: string }; dns: string };
    assert.equal(printed.authority.hex, formatHex(world.authority));
    assert.deepEqual(await readFile(root), await readFile(metadata("1.root.json")));
    const text = await readFile(paper, "utf8");
    for (const word of printed.authority.words.split(" ")) assert.ok(text.includes(` ${word}`), word);
    const line = (await readFile(pin, "utf8")).trimEnd();
    assert.match(line, /^v=viafabric1 authority=[0-9a-f]{64} root=[0-9a-f]{64} policy=[0-9a-f]{64}$/);
    assert.ok(line.endsWith(formatHex(sha256(LINEAGE))) && printed.dns.includes(line));
    for (const word of formatWords(sha256(LINEAGE)).split(" ")) assert.ok(text.includes(` ${word}`), word);
    for (const word of line.split(" ")) assert.ok(text.includes(`"${word}`), word);
    assert.ok(
      text.split("\n").every((each) => each.length <= 120),
      "fits a page",
    );
    assert.ok(printed.dns.includes(printed.authority.hex));
    assert.ok(/"(.*)"/.exec(printed.dns)![1]!.length <= 255, "one string of a TXT record");
    assert.equal((await via("sheet", ...home, "--domain", 'x" y')).code, 2);
    assert.match((await via("sheet", "--home", made)).err, /ERR_HOME/);
    const unknown = await via("--json", "verify", metadata("2.batches.json"), "--home", made);
    assert.equal(unknown.code, 1);
    assert.deepEqual(JSON.parse(unknown.out)[0].quorums, []);
  }));

test("enroll shows the authority in words and signs only after a yes", () =>
  withGenesis(async (folder, homes, genesis) => {
    const secret = path.join(folder, "passphrase");
    await writeFile(secret, PASSPHRASE);
    const args = ["enroll", "--genesis", genesis, "--home", homes[1]!.folder, "--passphrase-file", secret];
    const before = await fingerprint(folder);
    assert.equal((await via(...args)).code, 1);
    assert.deepEqual(await fingerprint(folder), before);
    const enrolled = await via(...args, "--yes", "--json");
    assert.equal(enrolled.code, 0, enrolled.err);
    const { words, signatures } = JSON.parse(enrolled.out) as { words: string; signatures: string };
    assert.equal(words.split(" ").length, 24);
    assert.ok((await readFile(signatures)).length > 0);
  }));

test("the command line explains itself and refuses what it does not know", async () => {
  for (const args of [["--help"], ["sign", "--help"], ["suspend", "--help"], ["enroll", "--help"]]) {
    const { code, out } = await via(...args);
    assert.equal(code, 0);
    assert.match(out, /via trustee/);
    assert.match(out, /Example/);
  }
  const home = ["--home", "/nonexistent", "--vault", "http://127.0.0.1:1"];
  for (const args of [
    [],
    ["nonsense"],
    ["sign"],
    ["sign", "abcd", ...home],
    ["status", "--vault", "ftp://x", "--home", "/nonexistent"],
  ]) {
    const { code, err } = await via(...args);
    assert.ok(code === 2 || (code === 4 && /ERR_PASSPHRASE/.test(err)), `${args.join(" ")}: ${code} ${err}`);
  }
});
