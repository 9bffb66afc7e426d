/** Repositories with one flaw each. The signatures are right, also over what nobody of ours would sign. */
import { formatHex, type Signer, sha256 } from "@viafabric/schemas";
import { canonicalJson, type JsonObject, keyJson, POLICY_PATH } from "@viafabric/tuf";
import { SECOND } from "./accepted.ts";
import { type Edit, ecdsa, ed25519, FAR, HOLDERS, LONG_AGO, publish, rootFile, THRESHOLD } from "./authority.ts";
import { type Reasons, type Repository, tooFew, verdicts } from "./repository.ts";

/** Of a delegated role python-tuf and go-tuf say the name, of the others the file. */
const isExpired = (role: string): Reasons => {
  const name = role === "batches" ? role : `${role}.json`;
  return {
    viafabric: "ERR_METADATA_EXPIRED",
    "tuf-js": `${role}.json is expired`,
    "python-tuf": `${name} is expired`,
    "go-tuf": `${name} is expired`,
  };
};
const [first, second] = HOLDERS.trustees as [Signer, Signer, Signer];

export async function unusual(): Promise<readonly Repository[]> {
  return [
    await expired(),
    await oneShort(),
    await duplicateKey(),
    await milliseconds(),
    await nonAscii(),
    await numericRole(),
    await unknownKeyType(),
  ];
}

async function expired(): Promise<Repository> {
  const roots = [await rootFile(1, HOLDERS), await rootFile(2, HOLDERS, [first, second], LONG_AGO)];
  return {
    name: "expired",
    what: "Everything is signed as it must be; one role at a time expired in 2020.",
    steps: [
      {
        what: "the timestamp",
        verdicts: verdicts(isExpired("timestamp")),
        publication: await publish({ expires: { timestamp: LONG_AGO } }),
      },
      {
        what: "batches, under a fresh timestamp",
        verdicts: verdicts(isExpired("batches")),
        publication: await publish({ ...SECOND, expires: { batches: LONG_AGO } }),
      },
      {
        what: "root 2",
        verdicts: verdicts(isExpired("root")),
        publication: await publish({ roots, versions: { batches: 3, snapshot: 3, timestamp: 3 } }),
      },
    ],
  };
}

async function oneShort(): Promise<Repository> {
  const stranger = ed25519("stranger");
  return {
    name: "one-short",
    what: `One of the ${THRESHOLD} signatures needed is missing.`,
    steps: [
      {
        what: "batches signed by one trustee",
        verdicts: verdicts(tooFew("batches", 1)),
        publication: await publish({ signers: { batches: [first] } }),
      },
      {
        what: "batches signed by one trustee and a stranger",
        verdicts: verdicts(tooFew("batches", 1)),
        publication: await publish({ ...SECOND, signers: { batches: [first, stranger] } }),
      },
      {
        what: "targets signed by one trustee",
        verdicts: verdicts(tooFew("targets", 1)),
        publication: await publish({
          versions: { targets: 3, batches: 3, snapshot: 3, timestamp: 3 },
          signers: { targets: [second] },
        }),
      },
    ],
  };
}

/** One person under two key ids, who signs twice. */
async function duplicateKey(): Promise<Repository> {
  const alias = "ab".repeat(32);
  const person = ecdsa("trustee with two names");
  const spellings = ["ecdsa", "ecdsa-sha2-nistp256"].map((keytype) => ({ ...keyJson(person.publicKey), keytype }));
  const ids = spellings.map((key) => formatHex(sha256(canonicalJson(key))));
  return {
    name: "duplicate-key-under-two-ids",
    what: `One person has two key ids in batches and signs with both; the threshold is ${THRESHOLD}.`,
    why:
      "tuf-js and python-tuf count key ids, and neither demands that an id is the hash of its key. go-tuf counts " +
      "distinct public keys. We count keys too, and refuse the file already: a key has one spelling and one id here.",
    steps: [
      {
        what: "the second id is made up",
        verdicts: verdicts({ viafabric: "ERR_METADATA", "go-tuf": tooFew("batches", 1)["go-tuf"] }),
        publication: await publish({
          edit: { targets: addToBatches({ [alias]: keyJson(first.publicKey) }) },
          signers: { batches: [first, { ...first, keyid: alias }] },
        }),
      },
      {
        what: "both ids are the hash of their key: one P-256 key, its type spelled in two ways that clients read",
        verdicts: verdicts({ viafabric: "ERR_METADATA", "go-tuf": tooFew("batches", 1)["go-tuf"] }),
        publication: await publish({
          versions: { targets: 2, batches: 2, snapshot: 2, timestamp: 2 },
          edit: { targets: addToBatches(Object.fromEntries(spellings.map((key, i) => [ids[i]!, key]))) },
          signers: { batches: ids.map((keyid) => ({ ...person, keyid })) },
        }),
      },
    ],
  };
}

async function milliseconds(): Promise<Repository> {
  const expires = new Date(FAR * 1000).toISOString();
  return {
    name: "millisecond-dates",
    what: `The timestamp expires ${expires}, as a JavaScript program would write it by itself.`,
    why:
      "python-tuf does not read such a date. go-tuf reads it, writes it again without the zeros, and then the " +
      "signature is over other bytes. tuf-js keeps the text. We refuse what any of them does.",
    steps: [
      {
        what: "a date with milliseconds",
        verdicts: verdicts({
          viafabric: "ERR_METADATA",
          "python-tuf": "ValueError: time data",
          "go-tuf": tooFew("timestamp", 0, 1)["go-tuf"],
        }),
        publication: await publish({ edit: { timestamp: (json) => ({ ...json, expires }) } }),
      },
    ],
  };
}

/** Two keys whose order depends on whether one compares UTF-16 units (as JavaScript does) or code points. */
async function nonAscii(): Promise<Repository> {
  const custom = { first: 1, second: 2 };
  return {
    name: "non-ascii-keys",
    what: "A target has custom data with the members U+1F511 and U+FF5E, sorted and signed as JavaScript sorts.",
    why:
      "Canonical JSON sorts members, but implementations disagree beyond ASCII: JavaScript compares UTF-16 units, " +
      "Python and Go code points, so they compute other bytes. We refuse names outside ASCII.",
    steps: [
      {
        what: "custom data with two such names",
        verdicts: verdicts({ ...tooFew("targets", 0), viafabric: "ERR_METADATA", "tuf-js": undefined }),
        publication: await publish({
          edit: { targets: editTarget(POLICY_PATH, (target) => ({ ...target, custom })) },
          respell: (text) => text.replace('"first":', '"\u{1f511}":').replace('"second":', '"\uff5e":'),
        }),
      },
    ],
  };
}

async function numericRole(): Promise<Repository> {
  const role = (batches: JsonObject): JsonObject => ({ ...batches, name: "2026", paths: ["archive/2026"] });
  return {
    name: "numeric-role-name",
    what: "After batches, targets delegates to a role named 2026.",
    why:
      "JavaScript puts members of an object that look like numbers first, so tuf-js writes the delegations in another " +
      "order than was signed and finds no valid signature. We demand names that begin with a letter.",
    steps: [
      {
        what: "a delegation to 2026",
        verdicts: verdicts({ viafabric: "ERR_THRESHOLD", "tuf-js": tooFew("targets", 0)["tuf-js"] }),
        publication: await publish({ edit: { targets: editRoles((roles) => [...roles, role(roles[0]!)]) } }),
      },
    ],
  };
}

async function unknownKeyType(): Promise<Repository> {
  const key = { keytype: "ml-dsa-65", scheme: "ml-dsa-65", keyval: { public: "00".repeat(32) } };
  return {
    name: "unknown-key-type",
    what: "batches has a fourth key, of a type that no client knows. Two of the others signed.",
    why:
      "tuf-js ignores the key. python-tuf refuses the file that has it, go-tuf the role that lists it. We refuse the " +
      "file: who can sign must not depend on who reads.",
    steps: [
      {
        what: "an ML-DSA key among the keys of batches",
        verdicts: verdicts({
          viafabric: "ERR_METADATA",
          "python-tuf": "Unsupported public key ml-dsa-65",
          "go-tuf": "unsupported public key type",
        }),
        publication: await publish({
          edit: { targets: addToBatches({ [formatHex(sha256(canonicalJson(key)))]: key }) },
        }),
      },
    ],
  };
}

/** More keys for the role batches. */
function addToBatches(keys: Readonly<Record<string, JsonObject>>): Edit {
  return (targets) => {
    const edit = editRoles(([batches, ...more]) => [
      { ...batches, keyids: [...(batches!.keyids as readonly string[]), ...Object.keys(keys)] },
      ...more,
    ]);
    return editMember(edit(targets), "delegations", (all) => editMember(all, "keys", (old) => ({ ...old, ...keys })));
  };
}

function editRoles(edit: (roles: readonly JsonObject[]) => readonly JsonObject[]): Edit {
  return (targets) =>
    editMember(targets, "delegations", (all) => ({ ...all, roles: edit(all.roles as readonly JsonObject[]) }));
}

function editTarget(path: string, edit: Edit): Edit {
  return (targets) => editMember(targets, "targets", (all) => editMember(all, path, edit));
}

function editMember(object: JsonObject, name: string, edit: Edit): JsonObject {
  return { ...object, [name]: edit(object[name] as JsonObject) };
}
