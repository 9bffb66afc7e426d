/** Roots of which one version must do: a root that died and is followed by another, and an authority that slept. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { type Role, type Signer, sha256 } from "@viafabric/schemas";
import {
  attachFormer,
  buildRoot,
  createEnrolmentCard,
  type FormerRotation,
  parseSigned,
  type Rejection,
  rotationIdOf,
  signRejection,
} from "@viafabric/tuf";
import { reject, sign, status } from "./commands.ts";
import { DAY, NOW, namedSigner, PASSPHRASE, read, removeTemplate, SECRET } from "./fixtures.test.ts";
import { openSigner } from "./home.ts";
import { type OpenEvent, refuses, type World, withWorld } from "./world.test.ts";

after(removeTemplate);

const yes = async () => true;

async function rotationTo(world: World, newcomer: Signer, version: number): Promise<OpenEvent> {
  const { roles } = parseSigned("root", await read(`${world.genesis}/root.json`));
  const next: Role = { ...roles.root, keys: [...roles.root.keys.slice(1), newcomer.publicKey] };
  const root = buildRoot({
    version: 2,
    expires: world.now + 700 * DAY,
    roles: { ...roles, root: next, targets: next },
  });
  const { bytes } = await createEnrolmentCard(newcomer, { name: "Newcomer", role: "trustee" });
  return world.proposeRotation(root, { cards: [bytes], version });
}

function hashesOf({ event, parts }: OpenEvent): FormerRotation["hashes"] {
  const hash = ({ proposal }: OpenEvent["event"]) => sha256(proposal.signed);
  return { root: hash(event), targets: hash(parts!.targets), batches: hash(parts!.batches) };
}

test("another root of one version is signed only on proof that the one signed before can never be published", () =>
  withWorld(async (world) => {
    const first = await rotationTo(world, namedSigner("first newcomer"), 2);
    assert.ok(await sign(world.session(0), first.event.proposal.id, SECRET, yes));
    for (const i of [1, 2]) await reject(world.session(i), first.event.proposal.id, "the wrong person", SECRET, yes);
    const { rejections } = first.event;
    assert.equal(rejections.length, 2, "n - k + 1 of three");
    const hashes = hashesOf(first);
    const [one, two] = rejections as [Rejection, Rejection];
    const { authority } = world;
    const stranger = await signRejection(namedSigner("stranger"), authority, rotationIdOf(hashes), "me too");
    const other = { ...hashes, targets: sha256(hashes.targets) };
    const elsewhere = await signRejection(
      await openSigner(world.homes[2]!, PASSPHRASE),
      authority,
      rotationIdOf({ ...other, root: sha256(other.root) }),
      "another root",
    );
    const attempts: Readonly<Record<string, readonly FormerRotation[]>> = {
      "no proof": [],
      "one rejection too few": [{ hashes, rejections: [one] }],
      "one trustee twice": [
        { hashes, rejections: [one, one] },
        { hashes, rejections: [one] },
      ],
      "a stranger": [{ hashes, rejections: [one, stranger] }],
      "a rejection of another root": [{ hashes, rejections: [one, elsewhere] }],
      "rejections under another root's name": [{ hashes: other, rejections: [one, two] }],
      "a forged reason": [{ hashes, rejections: [one, { ...two, reason: "nothing of the kind" }] }],
    };
    for (const [what, former] of Object.entries(attempts)) {
      world.events.clear();
      const second = await rotationTo(world, namedSigner("second newcomer"), 3);
      for (const [name, bytes] of attachFormer(former)) second.attachments.set(name, bytes);
      await refuses(world, 0, second.event.proposal.id, "ERR_PROPOSAL_TWICE", what);
    }
    world.events.clear();
    for (const version of [2, 3]) {
      const third = await rotationTo(world, namedSigner("third newcomer"), version);
      for (const [name, bytes] of attachFormer([{ hashes, rejections }])) third.attachments.set(name, bytes);
      const { id } = third.event.proposal;
      // Of targets and batches a version that was signed is burned, whatever became of it.
      if (version === 2) await refuses(world, 0, id, "ERR_PROPOSAL_TWICE", "targets of a version signed before");
      else assert.ok(await sign(world.session(0), id, SECRET, yes));
    }
  }));

test("a year in a drawer: trustees sign the renewal of what has expired, and build nothing on it", () =>
  withWorld(async (world) => {
    await status(world.session(0));
    world.now = NOW + 400 * DAY;
    const { accepted } = await status(world.session(0));
    assert.equal(accepted.expired, true);
    const times = { nbf: world.now, claimBy: world.now + 90 * DAY, exp: world.now + 300 * DAY };
    const batch = await world.propose({ manifest: (manifest) => ({ ...manifest, ...times }) });
    await refuses(world, 0, batch.event.proposal.id, "ERR_METADATA_EXPIRED", "a new batch");
    world.events.clear();
    const { roles } = parseSigned("root", await read(`${world.genesis}/root.json`));
    const renewal = await world.proposeRotation(buildRoot({ version: 2, expires: world.now + 700 * DAY, roles }));
    for (const i of [0, 1]) assert.ok(await sign(world.session(i), renewal.event.proposal.id, SECRET, yes));
    assert.deepEqual(
      [renewal.event, renewal.parts!.targets, renewal.parts!.batches].map(({ approvals }) => approvals.length),
      [2, 2, 2],
    );
  }));
