/** Repositories that are wrong only for a client that remembers: what it saw before, or what it lost. */
import { VERSION_MAX } from "@viafabric/tuf";
import { SECOND } from "./accepted.ts";
import { ed25519, HOLDERS, type Holders, type Publication, publish, rootFile } from "./authority.ts";
import { everybodyAccepts, type Reasons, type Repository, type Step, verdicts } from "./repository.ts";

const OTHER_HASH: Reasons = {
  viafabric: "ERR_METADATA_MISMATCH",
  "tuf-js": "Expected hash",
  "python-tuf": "LengthOrHashMismatchError",
  "go-tuf": "ErrLengthOrHashMismatch",
};
const olderTimestamp = (version: number, known: number): Reasons => ({
  viafabric: "ERR_ROLLBACK",
  "tuf-js": `New timestamp version ${version} is less than current version ${known}`,
  "python-tuf": `New timestamp version ${version} must be >= ${known}`,
  "go-tuf": `new timestamp version ${version} must be >= ${known}`,
});

export async function stateful(): Promise<readonly Repository[]> {
  return [await rollback(), await mixAndMatch(), await fastForward(), await truncatedStore()];
}

async function rollback(): Promise<Repository> {
  return {
    name: "rollback",
    what: "A server goes back in time, first all of it, then only where trustees have to sign.",
    steps: [
      { what: "batches 2", verdicts: everybodyAccepts, publication: await publish(SECOND) },
      {
        what: "the day before, exactly as it was published",
        verdicts: verdicts(olderTimestamp(1, 2)),
        publication: await publish(),
      },
      {
        what: "a new timestamp and snapshot that list batches 1 again: a thief of the online keys",
        verdicts: verdicts({
          viafabric: "ERR_ROLLBACK",
          "tuf-js": "New version 1 of batches.json is less than current version 2",
          "python-tuf": "Expected batches.json version 1, got 2",
          "go-tuf": "expected batches.json version 1, got 2",
        }),
        publication: await publish({ versions: { snapshot: 3, timestamp: 3 } }),
      },
    ],
  };
}

async function mixAndMatch(): Promise<Repository> {
  const [before, now] = [await publish(), await publish(SECOND)];
  const other = await publish({ ...SECOND, head: { ...SECOND.head, next: 11 } });
  const swap = (name: string, file: Uint8Array): Publication => ({
    ...now,
    files: new Map([...now.files, [`metadata/${name}`, file]]),
  });
  return {
    name: "mix-and-match",
    what: "Every file is signed as it must be, but they are not of one moment.",
    steps: [
      { what: "batches 1", verdicts: everybodyAccepts, publication: before },
      {
        what: "the file of snapshot 2 is snapshot 1",
        verdicts: verdicts(OTHER_HASH),
        publication: swap("2.snapshot.json", before.files.get("metadata/1.snapshot.json")!),
      },
      {
        what: "batches 2 is another than snapshot 2 lists; trustees have signed both",
        verdicts: verdicts(OTHER_HASH),
        publication: swap("2.batches.json", other.files.get("metadata/2.batches.json")!),
      },
    ],
  };
}

async function fastForward(): Promise<Repository> {
  const rekeyed: Holders = { ...HOLDERS, snapshot: ed25519("snapshot 2"), timestamp: ed25519("timestamp 2") };
  const roots = [await rootFile(1, HOLDERS), await rootFile(2, rekeyed)];
  const step = (what: string, verdict: Step["verdicts"], publication: Publication): Step => ({
    what,
    verdicts: verdict,
    publication,
  });
  return {
    name: "fast-forward",
    what: "A thief of the online keys uses up the version numbers; a new root makes them small again.",
    steps: [
      step("batches 1", everybodyAccepts, await publish()),
      step(
        `snapshot and timestamp ${VERSION_MAX}`,
        everybodyAccepts,
        await publish({ versions: { snapshot: VERSION_MAX, timestamp: VERSION_MAX } }),
      ),
      step(
        "the vault goes on with snapshot and timestamp 2, which nobody can take any more",
        verdicts(olderTimestamp(2, VERSION_MAX)),
        await publish(SECOND),
      ),
      step(
        "root 2 has other keys for snapshot and timestamp, so their versions begin again",
        everybodyAccepts,
        await publish({ ...SECOND, holders: rekeyed, roots }),
      ),
    ],
  };
}

async function truncatedStore(): Promise<Repository> {
  const roots = [await rootFile(1, HOLDERS), await rootFile(2, HOLDERS)];
  return {
    name: "truncated-store",
    what: "The client's machine loses power and its files are cut short. The repository is good.",
    why:
      "tuf-js keeps its only anchor in the folder that it writes to, in place, and cannot start when that is damaged. " +
      "go-tuf is given the pinned root at every start, but stops at a stored timestamp that is no JSON. python-tuf " +
      "fetches again what it cannot read. So do we, and a store that is one file replaced as a whole is not cut short.",
    steps: [
      { what: "root 2, batches 1", verdicts: everybodyAccepts, publication: await publish({ roots }) },
      {
        what: "batches 2, for a client whose stored files have lost their second half",
        before: "power cut",
        verdicts: verdicts({ "tuf-js": "SyntaxError", "go-tuf": "json.SyntaxError" }),
        publication: await publish({ ...SECOND, roots }),
      },
    ],
  };
}
