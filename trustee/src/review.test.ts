import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { after, test } from "node:test";
import {
  decodePayload,
  EMPTY_ROOT,
  encodePayload,
  formatBase64,
  formatHex,
  type Head,
  type Manifest,
  parseBase64,
  sha256,
} from "@viafabric/schemas";
import { joinEvent, proposeEvent, reject, review, sign, status } from "./commands.ts";
import { DAY, fingerprint, KEYS, NOW, namedSigner, removeTemplate, SECRET } from "./fixtures.test.ts";
import { readOwnKey } from "./home.ts";
import { openSignedJournal } from "./signed-journal.ts";
import { parseIndices } from "./status-event.ts";
import { coded, refuses, signedEvent, type World, withWorld } from "./world.test.ts";

after(removeTemplate);

const yes = async () => true;

test("two trustees approve a batch, it is published, and the next builds on it", () =>
  withWorld(async (world) => {
    const first = await world.propose({ count: 300 });
    const { id } = first.event.proposal;
    const looked = (await review(world.session(0), id)).review;
    assert.equal(looked.batches!.batches[0]!.manifest.count, 300);
    assert.equal(looked.batches!.batches[0]!.subjects.length, 300);
    for (const i of [0, 2]) assert.ok(await sign(world.session(i), id, SECRET, yes));
    await world.publish(first);
    await world.log([await signedEvent(world, { ranges: [{ first: 7, count: 2 }] }, [1])]);
    await world.state();
    const second = await world.propose({ first: 400 });
    const again = (await review(world.session(1), second.event.proposal.id)).review;
    assert.equal(again.batches!.head.size, 2);
    assert.ok(again.batches!.head.floor.n === 300 && again.batches!.head.floor.epoch > 1);
    assert.ok(await sign(world.session(1), second.event.proposal.id, SECRET, yes));
    const report = await status(world.session(1));
    assert.deepEqual(
      report.proposals.map(({ mine, needsMe }) => [mine, needsMe]),
      [["sign", false]],
    );
    assert.deepEqual(
      (await status(world.session(0))).proposals.map(({ needsMe }) => needsMe),
      [true],
    );
  }));

test("no consent, no signature", () =>
  withWorld(async (world) => {
    const open = await world.propose();
    assert.equal(await sign(world.session(0), open.event.proposal.id, SECRET, async () => false), undefined);
    assert.equal(open.event.approvals.length, 0);
    assert.equal((await readFile(world.homes[0]!.journal)).length > 0, true, "the founding signatures are in it");
    const journal = await openSignedJournal(world.homes[0]!.journal);
    assert.equal(journal.decisions.length, 3);
    await journal.close();
  }));

test("what the server changes on the way is refused", () =>
  withWorld(async (world) => {
    const open = await world.propose();
    const { id } = open.event.proposal;
    const other = await world.propose({ count: 5, open: false });
    type Detail = { signed: string; attachments: Record<string, string>; version: number; threshold: number };
    const attempts: Readonly<Record<string, readonly [string, (detail: Detail) => void]>> = {
      "other bytes under the same id": [
        "ERR_PROPOSAL_MISMATCH",
        (d) => Object.assign(d, { signed: formatBase64(other.event.proposal.signed) }),
      ],
      "another manifest": [
        "ERR_PROPOSAL_MISMATCH",
        (d) =>
          Object.assign(d.attachments, { "manifest/0.cbor": formatBase64(other.attachments.get("manifest/0.cbor")!) }),
      ],
      "another head": [
        "ERR_METADATA_MISMATCH",
        (d) => Object.assign(d.attachments, { "head.cbor": formatBase64(other.attachments.get("head.cbor")!) }),
      ],
      "other payloads": [
        "ERR_PROPOSAL_MISMATCH",
        (d) =>
          Object.assign(d.attachments, { "payloads/0.cbor": formatBase64(other.attachments.get("payloads/0.cbor")!) }),
      ],
      "no payloads": ["ERR_PROPOSAL", (d) => Reflect.deleteProperty(d.attachments, "payloads/0.cbor")],
      "an attachment more": ["ERR_PROPOSAL", (d) => Object.assign(d.attachments, { x: "" })],
      "a lie about the version": ["ERR_PROPOSAL_MISMATCH", (d) => Object.assign(d, { version: 9 })],
      "a lie about the threshold": ["ERR_PROPOSAL_MISMATCH", (d) => Object.assign(d, { threshold: 1 })],
      "a lie about the role": ["ERR_PROPOSAL", (d) => Object.assign(d, { role: "targets", version: 2 })],
      "an expired proposal": ["ERR_PROPOSAL_CLOSED", (d) => Object.assign(d, { created: NOW - DAY, expires: NOW - 1 })],
      "a proposal for ever": ["ERR_PROPOSAL", (d) => Object.assign(d, { expires: NOW + 1000 * DAY })],
      "no text": ["ERR_JSON", (d) => Object.assign(d, { signed: 7 })],
      "not base64": ["ERR_BASE64", (d) => Object.assign(d, { signed: "%" })],
    };
    for (const [what, [code, change]] of Object.entries(attempts)) {
      world.falsify = (path, answer) => {
        if (path === `/events/${formatHex(id)}`) change(answer as Detail);
        return answer;
      };
      await refuses(world, 0, id, code, what);
    }
    world.falsify = (_path, answer) => answer;
    assert.ok(await sign(world.session(0), id, SECRET, yes), "the honest proposal is signed after all of these");
  }));

test("a proposal that breaks a rule or says something else than its tokens is refused", () =>
  withWorld(async (world) => {
    const station = KEYS.station.publicKey.kid;
    const manifest = (change: Partial<Manifest>) => ({ manifest: (m: Manifest) => ({ ...m, ...change }) });
    const head = (change: (head: Head) => Partial<Head>) => ({ head: (h: Head) => ({ ...h, ...change(h) }) });
    const payload = (change: (body: ReturnType<typeof decodePayload>) => object) => ({
      payloads: (payloads: Uint8Array[]) =>
        payloads.map((bytes, i) =>
          i === 1 ? encodePayload({ ...decodePayload(bytes), ...change(decodePayload(bytes)) }) : bytes,
        ),
    });
    const attempts: Readonly<Record<string, readonly [string, Parameters<World["propose"]>[0]]>> = {
      "a token with a larger quota": ["ERR_PROPOSAL_MISMATCH", payload(() => ({ quota: 1000 }))],
      "a token with a longer life": ["ERR_PROPOSAL_MISMATCH", payload(({ exp }) => ({ exp: exp + DAY }))],
      "a token of another index": ["ERR_PROPOSAL_MISMATCH", payload(({ index }) => ({ index: index + 1 }))],
      "a manifest out of its place": ["ERR_PROPOSAL_MISMATCH", manifest({ seq: 1 })],
      "an unknown profile": ["ERR_PROPOSAL_POLICY", manifest({ profile: "root-shell" })],
      "an issuer nobody listed": ["ERR_PROPOSAL_POLICY", manifest({ issuer: namedSigner("other").publicKey.kid })],
      "a key of another purpose as issuer": ["ERR_PROPOSAL_POLICY", manifest({ issuer: KEYS.status.publicKey.kid })],
      "a station nobody listed": [
        "ERR_PROPOSAL_POLICY",
        manifest({ stations: [{ kid: KEYS.release.publicKey.kid, first: 0, count: 3 }] }),
      ],
      "the station releases": ["ERR_PROPOSAL_POLICY", manifest({ releaseKeys: [station] })],
      "another policy": ["ERR_PROPOSAL_POLICY", manifest({ policyRoot: new Uint8Array(32) })],
      "nothing left to claim": [
        "ERR_PROPOSAL_POLICY",
        manifest({ nbf: NOW - 2 * DAY, claimBy: NOW - 1, exp: NOW + DAY }),
      ],
      "another authority": ["ERR_AUTHORITY", manifest({ authority: new Uint8Array(32) })],
      "a head for years": ["ERR_PROPOSAL_POLICY", { expires: NOW + 400 * DAY }],
      "an expired head": ["ERR_PROPOSAL_POLICY", { expires: NOW }],
      "the accepted version again": ["ERR_PROPOSAL_BASE", { version: 1 }],
      "a head that counts a hidden batch": ["ERR_PROPOSAL_MISMATCH", head(({ size }) => ({ size: size + 1 }))],
      "another root": ["ERR_PROPOSAL_MISMATCH", head(() => ({ root: EMPTY_ROOT }))],
      "an index range held back": ["ERR_PROPOSAL_MISMATCH", head(({ next }) => ({ next: next - 1 }))],
      "a head from the future": ["ERR_PROPOSAL_MISMATCH", head(() => ({ issued: NOW + 30 * DAY }))],
      "a head older than the accepted one": ["ERR_PROPOSAL_MISMATCH", head(() => ({ issued: NOW - 1 }))],
      "a log that was never signed": [
        "ERR_PROPOSAL_MISMATCH",
        head(({ log }) => ({ log: { ...log, size: log.size + 1 } })),
      ],
      "another history of the log": [
        "ERR_PROPOSAL_MISMATCH",
        head(({ log }) => ({ log: { ...log, root: sha256(log.root) } })),
      ],
      "no floor": ["ERR_PROPOSAL_MISMATCH", head(({ floor }) => ({ floor: { ...floor, epoch: 0 } }))],
      "a floor of another epoch": ["ERR_FETCH", head(({ floor }) => ({ floor: { ...floor, epoch: 9 } }))],
      "a floor that counts other tokens": [
        "ERR_PROPOSAL_MISMATCH",
        head(({ floor }) => ({ floor: { ...floor, n: 5 } })),
      ],
      "a floor that forgets a revocation": [
        "ERR_PROPOSAL_MISMATCH",
        head(({ floor }) => ({ floor: { ...floor, revokedRoot: sha256(floor.revokedRoot) } })),
      ],
    };
    for (const [what, [code, change]] of Object.entries(attempts)) {
      const open = await world.propose(change);
      await refuses(world, 0, open.event.proposal.id, code, what);
      world.events.clear();
    }
  }));

test("one proposal for each version is signed, and none that was rejected", () =>
  withWorld(async (world) => {
    const [first, second] = [await world.propose(), await world.propose({ count: 4 })];
    const [a, b] = [first.event.proposal.id, second.event.proposal.id];
    assert.ok(await sign(world.session(0), a, SECRET, yes));
    await refuses(world, 0, b, "ERR_PROPOSAL_TWICE", "a second proposal of version 2");
    assert.ok(await sign(world.session(0), a, SECRET, yes), "the same again changes nothing");
    assert.equal(first.event.approvals.length, 1);
    await assert.rejects(reject(world.session(0), a, "changed my mind", SECRET, yes), (error) =>
      coded(error, "ERR_PROPOSAL_TWICE"),
    );
    await reject(world.session(1), b, "twice as many as agreed", SECRET, yes);
    assert.equal(second.event.rejections.length, 1);
    await refuses(world, 1, b, "ERR_PROPOSAL_TWICE", "what was rejected here");
    assert.ok(await sign(world.session(1), a, SECRET, yes));
  }));

test("a proposal on another past than the one accepted here is refused", () =>
  withWorld(async (world) => {
    const hidden = await world.propose({ count: 2 });
    for (const i of [0, 1]) await sign(world.session(i), hidden.event.proposal.id, SECRET, yes);
    const before = { head: world.head, version: world.batchesVersion };
    await world.publish(hidden);
    await status(world.session(2));
    // The vault forgets the published batch and draws up another one in its place.
    [world.head, world.batchesVersion] = [before.head, before.version];
    const rewritten = await world.propose({ version: 3 });
    await refuses(world, 2, rewritten.event.proposal.id, "ERR_PROPOSAL_MISMATCH");
  }));

test("a log that lost entries or holds an unsigned event is evidence, and nothing is signed on it", () =>
  withWorld(async (world) => {
    const first = await world.propose();
    for (const i of [0, 1]) await sign(world.session(i), first.event.proposal.id, SECRET, yes);
    await world.publish(first);
    const forged = await signedEvent(world, { action: "revoke", ranges: [{ first: 0, count: 1 }] }, []);
    assert.equal(forged.type, "event");
    const signature = { kid: KEYS.operator.publicKey.kid, signature: new Uint8Array(64) };
    if (forged.type === "event") await world.log([{ ...forged, event: { ...forged.event, signatures: [signature] } }]);
    await world.state();
    const second = await world.propose();
    await refuses(world, 0, second.event.proposal.id, "ERR_LOG_UNSOUND");
    await rm(`${world.folder}/public/log/checkpoint`);
    await assert.rejects(status(world.session(0)), (error) => coded(error, "ERR_LOG_FILE"));
  }));

test("a trustee suspends, another joins, and altered bodies are not signed", () =>
  withWorld(async (world) => {
    const batch = await world.propose({ count: 20 });
    for (const i of [0, 1]) await sign(world.session(i), batch.event.proposal.id, SECRET, yes);
    await world.publish(batch);
    const wish = { action: "revoke", ranges: parseIndices("12,3-5,4-7"), reason: "kit lost", undoes: [] } as const;
    assert.deepEqual(wish.ranges, [
      { first: 3, count: 5 },
      { first: 12, count: 1 },
    ]);
    const proposed = await proposeEvent(world.session(0), wish, SECRET, yes);
    const [name] = [...world.statusEvents.keys()];
    assert.equal(name, formatHex(proposed!.id));
    assert.deepEqual(
      (await status(world.session(0))).events.map(({ needsMe }) => needsMe),
      [false],
    );
    assert.deepEqual(
      (await status(world.session(1))).events.map(({ needsMe }) => needsMe),
      [true],
    );
    world.falsify = (path, answer) => {
      if (!path.startsWith("/status-events/")) return answer;
      const body = parseBase64((answer as { body: string }).body);
      body[body.length - 1]! ^= 1;
      return { ...(answer as object), body: formatBase64(body) };
    };
    const before = await fingerprint(world.homes[1]!.folder);
    await assert.rejects(joinEvent(world.session(1), proposed!.id, SECRET, yes), (error) =>
      coded(error, "ERR_PROPOSAL_MISMATCH"),
    );
    assert.deepEqual(await fingerprint(world.homes[1]!.folder), before);
    world.falsify = (_path, answer) => answer;
    assert.equal((await joinEvent(world.session(1), proposed!.id, SECRET, yes))!.reason, "kit lost");
    assert.equal(world.statusEvents.get(name!)!.signatures.size, 2);
    const beyond = { ...wish, ranges: parseIndices("20") };
    await assert.rejects(proposeEvent(world.session(0), beyond, SECRET, yes), (error) =>
      coded(error, "ERR_EVENT_RANGE"),
    );
    for (const text of ["", "a", "3-1", "1-2-3", "-1", "4294967296", "1,,2"])
      assert.throws(
        () => parseIndices(text),
        (error) => coded(error, "ERR_USAGE"),
        text,
      );
  }));

test("rejections are shown when they prove themselves, and whoever asked is told that others must approve", () =>
  withWorld(async (world) => {
    const open = await world.propose();
    const { id } = open.event.proposal;
    await reject(world.session(1), id, "twice as many as agreed", SECRET, yes);
    const [real] = open.event.rejections;
    assert.ok(real);
    const own = (await readOwnKey(world.homes[0]!)).kid;
    world.falsify = (path, answer) => {
      const forged = { keyid: real.keyid, reason: "it is all fine", signature: formatHex(real.signature) };
      const put = (value: object) => Object.assign(value, { rejections: [forged, ...(value as Told).rejections] });
      if (path === `/events/${formatHex(id)}`) put(answer as object);
      if (path === "/events?state=open") for (const each of (answer as { events: object[] }).events) put(each);
      return answer;
    };
    const looked = (await review(world.session(0), id)).review;
    assert.deepEqual(
      looked.rejections.map(({ reason }) => reason),
      ["twice as many as agreed"],
    );
    const { proposals } = await status(world.session(0));
    assert.deepEqual(
      proposals[0]!.rejections.map(({ reason }) => reason),
      ["twice as many as agreed"],
    );

    const before = open.event.approvals.length;
    for (const [change, code] of [
      [{ requestedBy: [formatHex(own)] }, "ERR_OWN_REQUEST"],
      [{ state: "superseded" }, "ERR_PROPOSAL_CLOSED"],
    ] as const) {
      world.falsify = (path, answer) =>
        path === `/events/${formatHex(id)}` ? Object.assign(answer as object, change) : answer;
      await refuses(world, 0, id, code);
    }
    assert.equal(open.event.approvals.length, before);
    world.falsify = (path, answer) =>
      path === `/events/${formatHex(id)}`
        ? Object.assign(answer as object, { requestedBy: [formatHex(own)], ownApprovals: true })
        : answer;
    assert.ok(await sign(world.session(0), id, SECRET, yes), "nothing was remembered of the refusals");
  }));

interface Told {
  readonly rejections: readonly object[];
}
