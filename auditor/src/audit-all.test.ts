import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexSet } from "@viafabric/revocation";
import { concatAll, type OperationError, sha256, tokenLeaf, u32, utf8 } from "@viafabric/schemas";
import { type AllOptions, type AllReport, type AllState, auditAll } from "./audit-all.ts";
import { type Files, fetchFrom, KEYS, seededSigner, TestAuthority, TRUSTEES } from "./fixtures.test.ts";

function auditOf(files: Files, root: Uint8Array, more: Partial<AllOptions> = {}): Promise<AllReport> {
  return auditAll(fetchFrom(files), { pinned: { file: root }, files: [...files.keys()], ...more });
}

const messages = ({ findings }: AllReport) => findings.map(({ code, message }) => `${code} ${message}`);

async function refused(authority: TestAuthority, ...expected: readonly RegExp[]): Promise<void> {
  const report = await auditOf(await authority.publish(), authority.root);
  assert.equal(report.verdict, "refused");
  for (const pattern of expected) {
    assert.ok(
      messages(report).some((message) => pattern.test(message)),
      `${pattern} in ${messages(report).join("\n")}`,
    );
  }
}

test("an authority in order is verified, with every file accounted for", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const report = await auditOf(files, authority.root);
  assert.deepEqual(messages(report), []);
  assert.equal(report.verdict, "verified");
  assert.deepEqual(report.versions, { root: 2, targets: 2, batches: 3 });
  assert.deepEqual([report.status?.epoch, report.status?.n, report.status?.counts], [4, 310, [2, 1, 307]]);
  assert.deepEqual([report.batches, report.statusFiles.notHeld], [{ checked: 2, notHeld: 0 }, 0]);
  assert.equal(report.walk?.checked, files.size);
  assert.deepEqual([report.walk?.unknownTotal, report.walk?.ahead], [0, 0]);
  assert.deepEqual(
    report.series.epochs.map(([epoch, revoked]) => [epoch, revoked]),
    [
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 2],
    ],
  );
});

test("a later root may be pinned, with the authority it belongs to", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const file = files.get("root/2.root.json")!;
  const pinned = { file, authority: authority.authority };
  assert.equal((await auditAll(fetchFrom(files), { pinned })).verdict, "verified");
  assert.equal((await auditAll(fetchFrom(files), { pinned: { file } })).verdict, "refused");
  const other = { file, authority: new Uint8Array(32) };
  assert.equal((await auditAll(fetchFrom(files), { pinned: other })).verdict, "refused");
});

test("one flipped bit in any published file is refused", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const names = [...files.keys()];
  for (const [file, bytes] of files) {
    for (const part of bytes.length === 0 ? [] : [0, 0.45, 1]) {
      const at = Math.floor(part * (bytes.length - 1));
      const wrong = bytes.slice();
      wrong[at]! ^= 1;
      const report = await auditOf(new Map(files).set(file, wrong), authority.root, { files: names });
      assert.equal(report.verdict, "refused", `${file} at ${at}`);
    }
  }
});

test("tiles and bundles of earlier sizes, which no reader needs any more, are checked too", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const framed = authority.entries.slice(0, 7).flatMap((entry) => [u32(entry.length).slice(2), entry]);
  const old = new Map([
    ["log/tile/0/000.p/7", files.get("log/tile/0/000")!.slice(0, 7 * 32)],
    ["log/tile/entries/000.p/7", concatAll(framed)],
  ]);
  const all = new Map([...files, ...old]);
  const whole = await auditOf(all, authority.root);
  assert.deepEqual([whole.verdict, whole.walk?.checked], ["verified", all.size]);
  for (const [file, bytes] of old) {
    for (const at of [2, 60, bytes.length - 1]) {
      const wrong = bytes.slice();
      wrong[at]! ^= 1;
      const report = await auditOf(new Map(all).set(file, wrong), authority.root);
      assert.deepEqual([report.verdict, report.findings[0]?.code], ["refused", "ERR_LOG_MISMATCH"], `${file} at ${at}`);
    }
  }
});

test("a file that nobody can account for is named", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const named = await auditOf(new Map(files).set("notes.txt", utf8("hello")), authority.root);
  assert.deepEqual([named.verdict, named.walk?.unknown], ["verified", ["notes.txt"]]);
  for (const [file, bytes] of [
    ["tuf/metadata/9.batches.json", files.get("tuf/metadata/3.batches.json")!],
    ["revocation/e/5.txt", files.get("revocation/e/4.txt")!],
    ["revocation/0/s/9.rvx", files.get("revocation/0/s/1.rvx")!],
    ["root/7.root.json", files.get("root/1.root.json")!],
    ["batch/2/manifest.cbor", files.get("batch/1/manifest.cbor")!],
  ] as const) {
    const report = await auditOf(new Map(files).set(file, bytes), authority.root);
    assert.deepEqual([report.verdict, report.findings[0]?.code], ["refused", "ERR_TRUST_UNLOGGED"], file);
  }
});

test("files that decisions rest on must be there", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  for (const file of files.keys()) {
    if (!/^tuf\/metadata\/\d+\.(root|targets|batches)|manifest\.cbor|^revocation\/e\//.test(file)) continue;
    const left = new Map(files);
    left.delete(file);
    assert.equal((await auditOf(left, authority.root)).verdict, "refused", file);
  }
});

test("a wrong manifest is one finding, and hides nothing else", async () => {
  const authority = await TestAuthority.active();
  const spoilt = async () => {
    const files = await authority.publish();
    const path = "batch/1/manifest.cbor";
    return new Map(files).set(path, files.get(path)!.with(40, files.get(path)![40]! ^ 1));
  };
  const files = await spoilt();
  const alone = await auditOf(files, authority.root, { files: [...files.keys()] });
  assert.deepEqual([alone.verdict, alone.findingsTotal], ["refused", 1], messages(alone).join("\n"));
  assert.match(messages(alone)[0]!, /ERR_LOG_EVIDENCE batch 1: manifest.cbor is not .* its 300 tokens is not judged/);

  // Spoilt after it was audited: what nobody can judge any more is not a yes.
  let state: AllState | undefined;
  const pause = async (next: AllState) => {
    state = next;
  };
  await auditOf(await authority.publish(), authority.root, { pause });
  await authority.event("revoke", [[11, 2]], [TRUSTEES[1]!], [], false);
  const later = await auditOf(await spoilt(), authority.root, { state: state! });
  assert.deepEqual([later.verdict, later.findingsTotal], ["refused", 1], messages(later).join("\n"));
  assert.match(messages(later)[0]!, /ERR_LOG_EVIDENCE batch\/1\/manifest.cbor is not the manifest logged/);
  await authority.event("suspend", [[2, 1]], [seededSigner("nobody")], [], false);
  const both = messages(await auditOf(await spoilt(), authority.root));
  assert.equal(both.length, 2, both.join("\n"));
  assert.match(both[1]!, /ERR_THRESHOLD suspend of 1 from 2 on/);
});

test("a token outside a batch is refused, and named", async () => {
  const authority = await TestAuthority.active();
  authority.append([tokenLeaf(310, sha256(utf8("forged")).slice(0, 16), utf8("forged payload"))]);
  await refused(authority, /ERR_LOG_RULE .*token leaf 310 follows no batch/);
});

test("a batch that too few trustees approved is refused", async () => {
  const authority = await TestAuthority.active();
  await authority.batch(2, { signers: TRUSTEES.slice(1, 3) });
  await refused(authority, /ERR_THRESHOLD 2 of the 3 .*batches 4/, /ERR_UNAPPROVED batch 2 is under no head/);
});

test("an event below its threshold is refused, and named", async () => {
  const cases: readonly [Parameters<TestAuthority["event"]>[0], readonly (readonly [number, number])[], number[]][] = [
    ["revoke", [[11, 2]], [1]],
    ["revoke", [[0, 13]], [1, 2]],
    ["suspend", [[0, 13]], [1, 2]],
    // A trustee who left with root 2.
    ["suspend", [[11, 1]], [0]],
    ["release", [[11, 1]], [1, 2, 3, 4]],
  ];
  for (const [action, ranges, signers] of cases) {
    const authority = await TestAuthority.active();
    const chosen = signers.map((i) => TRUSTEES[i]!);
    await authority.event(action, ranges, chosen, [], false);
    await refused(authority, new RegExp(`ERR_THRESHOLD ${action} of ${ranges[0]![1]} from ${ranges[0]![0]} on`));
  }
  const authority = await TestAuthority.active();
  await authority.event("suspend", [[11, 1]], [seededSigner("nobody")], [], false);
  await refused(authority, /ERR_THRESHOLD suspend of 1 from 11 on/);
});

test("a statement that hides a revocation is refused, and named", async () => {
  const authority = await TestAuthority.active();
  await authority.event("revoke", [[20, 3]], TRUSTEES.slice(1, 4));
  await authority.state(([revoked, suspended, unreleased]) => [
    revoked.minus(IndexSet.fromRuns([{ first: 20, count: 3 }])),
    suspended,
    unreleased,
  ]);
  await refused(authority, /ERR_STATUS_REPLAY epoch 5 states 2 revoked tokens, the log makes 5/);
  const released = await TestAuthority.active();
  await released.state(([revoked, suspended, unreleased]) => [
    revoked,
    suspended,
    unreleased.minus(IndexSet.fromRuns([{ first: 15, count: 1 }])),
  ]);
  await refused(released, /ERR_STATUS_REPLAY epoch 5 states 306 unreleased tokens, the log makes 307/);
});

test("a pointer to what is not in the log is refused", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const last = authority.entries.length - 1;
  authority.entries.splice(last, 1);
  // The last statement is published and was never logged.
  const cut = await authority.publish();
  cut.delete("revocation/e/4.txt");
  const report = await auditOf(cut, authority.root);
  assert.ok(messages(report).some((message) => /ERR_TRUST_UNLOGGED revocation\/latest/.test(message)));
  assert.equal((await auditOf(files, authority.root)).verdict, "verified");
});

test("an audit goes on where the last one stopped, and comes to the same end", async () => {
  const authority = await TestAuthority.found();
  await authority.batch(40);
  await authority.state();
  let state: AllState | undefined;
  const pause = async (next: AllState) => {
    state = next;
  };
  const goOn = async () => auditOf(await authority.publish(), authority.root, { pause, ...(state && { state }) });
  assert.equal((await goOn()).verdict, "verified");
  const at = state!.resume.position;
  assert.equal(at, authority.entries.length);
  await authority.event("release", [[0, 9]], [KEYS.release]);
  // An event waits for the statement that covers it, also over a pause.
  assert.equal((await goOn()).verdict, "verified");
  await authority.rotateRoot([...TRUSTEES.slice(1), seededSigner("trustee 6")]);
  await authority.signTargets();
  await authority.state();
  await authority.batch(2);
  await authority.state();
  const resumed = await goOn();
  assert.deepEqual(messages(resumed), []);
  assert.equal(resumed.from, at + 1);
  const whole = await auditOf(await authority.publish(), authority.root);
  for (const part of ["counts", "versions", "status", "series", "statusFiles", "batches", "trustFiles"] as const) {
    assert.deepEqual(resumed[part], whole[part], part);
  }
  await authority.event("revoke", [[1, 1]], [TRUSTEES[1]!], [], false);
  assert.equal((await goOn()).verdict, "refused");
  await authority.state();
  // What was refused once stays refused.
  assert.match(messages(await goOn())[0]!, /ERR_THRESHOLD revoke of 1 from 1 on/);
  const foreign = { ...state!, authority: new Uint8Array(32) };
  await assert.rejects(auditOf(await authority.publish(), authority.root, { state: foreign }), {
    code: "ERR_AUDIT_STATE",
  } satisfies Partial<OperationError>);
  authority.entries.splice(5, 1);
  assert.match(messages(await goOn())[0]!, /ERR_LOG_SPLIT/);
});

test("a transcript of a key ceremony is verified: signed by its keys, of this authority, under its number", async () => {
  const good = await TestAuthority.found();
  await good.transcript(1);
  await good.state();
  assert.deepEqual(messages(await auditOf(await good.publish(), good.root)), []);
  const wrong = async (expected: RegExp, make: (authority: TestAuthority) => Promise<void>) => {
    const authority = await TestAuthority.found();
    await make(authority);
    await authority.state();
    await refused(authority, expected);
  };
  await wrong(/ERR_TRANSCRIPT_REFUSED .*has not signed it/, (authority) => authority.transcript(1, {}, KEYS.release));
  await wrong(/ERR_AUTHORITY/, (authority) => authority.transcript(1, { authority: new Uint8Array(32).fill(1) }));
  await wrong(/calls itself 2/, (authority) => authority.transcript(1, { number: 2 }));
});
