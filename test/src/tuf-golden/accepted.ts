/** Repositories as a vault publishes them, through good days and rotations: every client must accept them. */
import { type Signer, sha256, utf8 } from "@viafabric/schemas";
import { type Changes, ecdsa, ed25519, HOLDERS, type Holders, publish, rootFile } from "./authority.ts";
import { everybodyAccepts, type Repository, tooFew, verdicts } from "./repository.ts";

/** The head after one batch of ten tokens, and the metadata versions that bring it. */
export const SECOND: Changes = {
  versions: { batches: 2, snapshot: 2, timestamp: 2 },
  head: { size: 1, root: sha256(utf8("golden manifest tree")), next: 10 },
};

export async function accepted(): Promise<readonly Repository[]> {
  return [await good(), await mixedKeys(), await rotatedRoot()];
}

async function good(): Promise<Repository> {
  return {
    name: "good",
    what: "An authority at its beginning, then with its first batch.",
    steps: [
      {
        what: "the first day, with every role that a vault publishes",
        verdicts: everybodyAccepts,
        publication: await publish({ statement: true }),
      },
      {
        what: "a batch later: batches, snapshot and timestamp 2",
        verdicts: everybodyAccepts,
        publication: await publish({ ...SECOND, statement: true }),
      },
    ],
  };
}

async function mixedKeys(): Promise<Repository> {
  const [a, b, c] = [ed25519("trustee 1"), ecdsa("trustee 2"), ecdsa("trustee 3")] as const;
  const founders: Holders = { trustees: [a, b, c], snapshot: ecdsa("snapshot"), timestamp: ed25519("timestamp") };
  const publication = await publish({
    founders,
    holders: founders,
    roots: [await rootFile(1, founders)],
    signers: { targets: [c, a], batches: [b, c] },
  });
  return {
    name: "mixed-keys",
    what: "One Ed25519 and two P-256 trustees, and a P-256 snapshot key.",
    founders,
    steps: [
      {
        what: "targets signed with a key of each kind, batches with two P-256 keys",
        verdicts: everybodyAccepts,
        publication,
      },
    ],
  };
}

async function rotatedRoot(): Promise<Repository> {
  const [one, two, three] = HOLDERS.trustees as [Signer, Signer, Signer];
  const four = ed25519("trustee 4");
  const replaced: Holders = { ...HOLDERS, trustees: [one, two, four] };
  const rekeyed: Holders = { ...replaced, snapshot: ed25519("snapshot 2"), timestamp: ed25519("timestamp 2") };
  const usurpers: Holders = { ...rekeyed, trustees: [four, ed25519("usurper 1"), ed25519("usurper 2")] };
  const roots = [
    await rootFile(1, HOLDERS),
    await rootFile(2, replaced, [one, three, four]),
    await rootFile(3, rekeyed),
  ];
  const versions = { targets: 2, batches: 2, snapshot: 2, timestamp: 2 };
  const signers = { targets: [one, four], batches: [two, four] };
  return {
    name: "rotated-root",
    what: "Root 2 replaces a trustee, root 3 both online keys. Root 4 is not signed by the threshold of root 3.",
    steps: [
      { what: "root 1", verdicts: everybodyAccepts, publication: await publish() },
      {
        what: "roots 2 and 3, each signed by the threshold before it and its own",
        verdicts: everybodyAccepts,
        publication: await publish({ holders: rekeyed, roots, versions, signers }),
      },
      {
        what: "root 4, in which one trustee and two strangers have signed themselves in",
        verdicts: verdicts(tooFew("root", 1)),
        publication: await publish({
          holders: usurpers,
          roots: [...roots, await rootFile(4, usurpers, usurpers.trustees)],
          versions: { targets: 3, batches: 3, snapshot: 3, timestamp: 3 },
        }),
      },
    ],
  };
}
