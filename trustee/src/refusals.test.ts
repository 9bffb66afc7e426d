/** What a trustee's tool never signs, from the command down to the disk: no question, no signature, no trace. */
import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import {
  decodeRules,
  decodeTrustKeys,
  EMPTY_ROOT,
  encodeRules,
  encodeTrustKeys,
  formatBase64,
  type Head,
  type KeyEntry,
  type PublicKey,
  type Role,
  utf8,
} from "@viafabric/schemas";
import {
  attachTargets,
  buildBatches,
  buildRoot,
  buildTargets,
  createEnrolmentCard,
  HEAD_PATH,
  KEYS_PATH,
  parseSigned,
  RULES_PATH,
} from "@viafabric/tuf";
import { reject, sign, status } from "./commands.ts";
import { DAY, fingerprint, KEYS, NOW, namedSigner, read, removeTemplate, SECRET } from "./fixtures.test.ts";
import { coded, type GivenParts, refuses, type World, withWorld } from "./world.test.ts";

after(removeTemplate);

const yes = async () => true;

/** The first root and targets of a world, to change. */
async function founded(world: World) {
  const { roles } = parseSigned("root", await read(path.join(world.genesis, "root.json")));
  const targets = parseSigned("targets", await read(path.join(world.genesis, "targets.json")));
  const files = new Map<string, Uint8Array>();
  for (const name of targets.targets.keys())
    if (name !== HEAD_PATH) files.set(name, await read(path.join(world.genesis, "targets", name)));
  const delegated = (name: string): Role => targets.delegations.find((each) => each.name === name)!.role;
  return { roles, files, batches: delegated("batches"), revocations: delegated("revocations") };
}

test("a root that weakens the authority is not signed", () =>
  withWorld(async (world) => {
    const { roles } = await founded(world);
    const people = roles.root;
    const strangers = [1, 2, 3].map((i) => namedSigner(`stranger ${i}`).publicKey);
    const withKeys = (keys: readonly PublicKey[], threshold = people.threshold): Role => ({ keys, threshold });
    const root = (change: Partial<typeof roles>, version = 2, expires = NOW + 700 * DAY) =>
      buildRoot({ version, expires, roles: { ...roles, ...change } });
    const attempts: Readonly<Record<string, readonly [string, Uint8Array]>> = {
      "a lower threshold": ["ERR_PROPOSAL_POLICY", root({ root: withKeys(people.keys, 1) })],
      "a lower threshold of targets": ["ERR_PROPOSAL_POLICY", root({ targets: withKeys(people.keys, 1) })],
      "a version left out": ["ERR_PROPOSAL_BASE", root({}, 3)],
      "the version accepted already": ["ERR_PROPOSAL_BASE", root({}, 1, NOW + 600 * DAY)],
      "a life longer than the rules": ["ERR_PROPOSAL_POLICY", root({}, 2, NOW + 800 * DAY)],
      "a life that is over": ["ERR_PROPOSAL_POLICY", root({}, 2, NOW)],
      "a threshold of new people": ["ERR_PROPOSAL_POLICY", root({ root: withKeys([people.keys[0]!, ...strangers]) })],
      "a trustee's key for the timestamp": [
        "ERR_PROPOSAL_POLICY",
        root({ timestamp: { keys: [people.keys[0]!], threshold: 1 } }),
      ],
      "the station's key for a trustee": [
        "ERR_PROPOSAL_POLICY",
        root({ root: withKeys([...people.keys.slice(1), KEYS.station.publicKey]) }),
      ],
    };
    for (const [what, [code, signed]] of Object.entries(attempts)) {
      const open = await world.proposeRotation(signed);
      await refuses(world, 0, open.event.proposal.id, code, what);
      world.events.clear();
    }
    const honest = await world.proposeRotation(root({}));
    assert.ok(await sign(world.session(0), honest.event.proposal.id, SECRET, yes), "a root that changes nothing");
  }));

test("a rotation that carries anything but trustees and online keys is not signed", () =>
  withWorld(async (world) => {
    const { roles, files, batches, revocations } = await founded(world);
    const newcomer = namedSigner("newcomer");
    const card = (await createEnrolmentCard(newcomer, { name: "Newcomer", role: "trustee" })).bytes;
    const stationCard = (await createEnrolmentCard(newcomer, { name: "Newcomer", role: "station" })).bytes;
    const next: Role = { ...roles.root, keys: [...roles.root.keys.slice(1), newcomer.publicKey] };
    const root = buildRoot({ version: 2, expires: NOW + 700 * DAY, roles: { ...roles, root: next, targets: next } });
    const targets = (change: Partial<Parameters<typeof buildTargets>[0]>) =>
      buildTargets({ version: 2, expires: NOW + 300 * DAY, targets: files, batches: next, revocations, ...change });
    const rules = decodeRules(files.get(RULES_PATH)!);
    const stricter = encodeRules({ ...rules, thresholds: { ...rules.thresholds, suspend: 2 } });
    const attempts: Readonly<Record<string, readonly [string, Partial<GivenParts>]>> = {
      "other rules": [
        "ERR_PROPOSAL_POLICY",
        { targets: targets({ targets: new Map([...files, [RULES_PATH, stricter]]) }) },
      ],
      "a file less": ["ERR_PROPOSAL_POLICY", { targets: targets({ targets: new Map([...files].slice(1)) }) }],
      "the old trustees for batches": ["ERR_PROPOSAL_POLICY", { targets: targets({ batches }) }],
      "another key for revocations": [
        "ERR_PROPOSAL_POLICY",
        { targets: targets({ revocations: { keys: [newcomer.publicKey], threshold: 1 } }) },
      ],
      "targets of the accepted version": ["ERR_PROPOSAL_BASE", { targets: targets({ version: 1 }) }],
      "targets for ten years": ["ERR_PROPOSAL_POLICY", { targets: targets({ expires: NOW + 3650 * DAY }) }],
      "another head than the one that came": [
        "ERR_METADATA_MISMATCH",
        { batches: buildBatches({ version: 2, expires: NOW + 100 * DAY, head: utf8("head") }) },
      ],
      "a new key without a card": ["ERR_PROPOSAL_POLICY", { cards: [] }],
      "a new key with a station's card": ["ERR_PROPOSAL_POLICY", { cards: [stationCard] }],
    };
    for (const [what, [code, given]] of Object.entries(attempts)) {
      const open = await world.proposeRotation(root, { cards: [card], ...given });
      await refuses(world, 0, open.event.proposal.id, code, what);
      world.events.clear();
    }
    const honest = await world.proposeRotation(root, { cards: [card] });
    const other = await world.proposeRotation(root, { cards: [card], targets: targets({ expires: NOW + 310 * DAY }) });
    const [id, otherId] = [honest.event.proposal.id, other.event.proposal.id];
    world.falsify = (_path, answer) => {
      const swapped = { targets: formatBase64(other.parts!.targets.proposal.signed) };
      return { ...(answer as object), parts: { ...(answer as { parts: object }).parts, ...swapped } };
    };
    await refuses(world, 0, id, "ERR_PROPOSAL_MISMATCH", "the targets of another rotation");
    world.falsify = (_path, answer) => ({ ...(answer as object), parts: undefined });
    await refuses(world, 0, id, "ERR_PROPOSAL", "a root by itself");
    world.falsify = (_path, answer) => answer;
    const looked = await sign(world.session(0), id, SECRET, yes);
    assert.match(looked!.changes.join("\n"), /is "Newcomer"/);
    for (const { approvals } of [honest.event, honest.parts!.targets, honest.parts!.batches])
      assert.equal(approvals.length, 1, "root, targets and batches");
    await refuses(world, 0, otherId, "ERR_PROPOSAL_TWICE", "other targets of the same version");
    const again = await world.proposeRotation(root, { cards: [card], targets: targets({ version: 3 }) });
    assert.ok(await sign(world.session(0), again.event.proposal.id, SECRET, yes), "the same root in later company");
    const another = buildRoot({ version: 2, expires: NOW + 710 * DAY, roles: { ...roles, root: next, targets: next } });
    const twice = await world.proposeRotation(another, { cards: [card], targets: targets({ version: 4 }) });
    await refuses(world, 0, twice.event.proposal.id, "ERR_PROPOSAL_TWICE", "another root of the same version");
    await reject(world.session(1), otherId, "not agreed", SECRET, yes);
    await refuses(world, 1, id, "ERR_PROPOSAL_TWICE", "a root that was rejected in other company");
  }));

test("targets that lower a threshold or share a key are not signed", () =>
  withWorld(async (world) => {
    const { roles, files, batches, revocations } = await founded(world);
    const keys = decodeTrustKeys(files.get(KEYS_PATH)!);
    const rules = decodeRules(files.get(RULES_PATH)!);
    type Change = { files?: readonly (readonly [string, Uint8Array])[]; batches?: Role; expires?: number };
    const listing = (entries: readonly KeyEntry[]): Change => ({ files: [[KEYS_PATH, encodeTrustKeys(entries)]] });
    const as = (key: PublicKey): Change => listing(keys.map((e) => (e.purpose === "station" ? { ...e, key } : e)));
    const ruling = (thresholds: Partial<typeof rules.thresholds>): Change => ({
      files: [[RULES_PATH, encodeRules({ ...rules, thresholds: { ...rules.thresholds, ...thresholds } })]],
    });
    const strangers = [1, 2].map((i) => namedSigner(`stranger ${i}`).publicKey);
    const attempts: Readonly<Record<string, readonly [string, Change]>> = {
      "one trustee for batches": ["ERR_PROPOSAL_POLICY", { batches: { ...batches, threshold: 1 } }],
      "a threshold of strangers for batches": [
        "ERR_PROPOSAL_POLICY",
        { batches: { ...batches, keys: [batches.keys[0]!, ...strangers] } },
      ],
      "the snapshot key approves batches": [
        "ERR_PROPOSAL_POLICY",
        { batches: { ...batches, keys: [...batches.keys.slice(1), roles.snapshot.keys[0]!] } },
      ],
      "one trustee reinstates": ["ERR_PROPOSAL_POLICY", ruling({ reinstate: 1 })],
      "one trustee revokes": ["ERR_PROPOSAL_POLICY", ruling({ revoke: 1 })],
      "one trustee revokes a kit": ["ERR_PROPOSAL_POLICY", ruling({ revokeKit: 1 })],
      "a trustee is also the station": ["ERR_PROPOSAL_POLICY", as(roles.root.keys[0]!)],
      "the timestamp key is also the station": ["ERR_PROPOSAL_POLICY", as(roles.timestamp.keys[0]!)],
      "one key for two purposes": ["ERR_TRUST_FILE", as(KEYS.issuer.publicKey)],
      "a life longer than the rules": ["ERR_PROPOSAL_POLICY", { expires: NOW + 400 * DAY }],
    };
    const propose = (change: Change) => {
      const changed = new Map([...files, ...(change.files ?? [])]);
      const signed = buildTargets({
        version: 2,
        expires: change.expires ?? NOW + 360 * DAY,
        targets: changed,
        batches: change.batches ?? batches,
        revocations,
      });
      return world.proposeTargets(signed, attachTargets(changed));
    };
    for (const [what, [code, change]] of Object.entries(attempts)) {
      const open = await propose(change);
      await refuses(world, 0, open.event.proposal.id, code, what);
      world.events.clear();
    }
    const stricter = await propose(ruling({ suspend: 2 }));
    assert.ok(await sign(world.session(0), stricter.event.proposal.id, SECRET, yes));
  }));

test("a head that does not extend the accepted one, or names another log, is not signed", () =>
  withWorld(async (world) => {
    const first = await world.propose({ count: 4 });
    for (const i of [0, 1]) await sign(world.session(i), first.event.proposal.id, SECRET, yes);
    await world.publish(first);
    const attempts: Readonly<Record<string, readonly [string, (head: Head) => Partial<Head>]>> = {
      "a shorter log": ["ERR_PROPOSAL_BASE", () => ({ log: { size: 0, root: EMPTY_ROOT } })],
      "a log root that is no extension": [
        "ERR_PROPOSAL_MISMATCH",
        ({ log }) => ({ log: { size: log.size - 1, root: log.root } }),
      ],
      "an older floor": ["ERR_PROPOSAL_BASE", ({ floor }) => ({ floor: { ...floor, epoch: floor.epoch - 2 } })],
      "fewer tokens below the floor": ["ERR_PROPOSAL_MISMATCH", ({ floor }) => ({ floor: { ...floor, n: 0 } })],
      "a manifest tree of its own": ["ERR_PROPOSAL_MISMATCH", ({ log }) => ({ root: log.root })],
      "fewer batches": ["ERR_PROPOSAL_MISMATCH", () => ({ size: 1 })],
    };
    for (const [what, [code, change]] of Object.entries(attempts)) {
      const open = await world.propose({ head: (head) => ({ ...head, ...change(head) }) });
      await refuses(world, 0, open.event.proposal.id, code, what);
      world.events.clear();
    }
  }));

test("where the published log or head was replaced by another one, nothing is signed and nothing is accepted", () =>
  withWorld((world) =>
    // The same authority with the same keys, and another history: what a thief of the server could make.
    withWorld(async (forked) => {
      for (const [each, count] of [
        [world, 3],
        [forked, 5],
      ] as const) {
        const open = await each.propose({ count });
        for (const i of [0, 1]) await sign(each.session(i), open.event.proposal.id, SECRET, yes);
        await each.publish(open);
      }
      const next = await world.propose();
      await status(world.session(0));
      const [home] = world.homes;
      const before = await fingerprint(home!.folder);
      const published = path.join(world.folder, "public");
      // With the same versions everywhere, the tool keeps what it accepted, and the tree does not fit to it.
      for (const [part, code] of [
        ["log", "ERR_PROPOSAL_MISMATCH"],
        ["", "ERR_LOG_MISMATCH"],
      ] as const) {
        const place = path.join(published, part);
        const kept = path.join(world.folder, "kept");
        await cp(place, kept, { recursive: true });
        await rm(place, { recursive: true });
        await cp(path.join(forked.folder, "public", part), place, { recursive: true });
        await assert.rejects(sign(world.session(0), next.event.proposal.id, SECRET, yes), (error) =>
          coded(error, code, part),
        );
        assert.deepEqual(await fingerprint(home!.folder), before, part);
        await rm(place, { recursive: true });
        await cp(kept, place, { recursive: true });
        await rm(kept, { recursive: true });
      }
      assert.equal(next.event.approvals.length, 0);
      assert.ok(await sign(world.session(0), next.event.proposal.id, SECRET, yes));
    }),
  ));
