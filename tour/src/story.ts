/**
 * One token's whole life, told by doing it: genesis if there is no authority yet, then one batch from request to
 * refusal. Every step is a command of one of the five users; the evidence beside it is read from that command.
 */

import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { startSimulator } from "@viafabric/nfc/simulator";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER, putImmutable } from "@viafabric/platform";
import { formatBase64Url, OperationError, utf8 } from "@viafabric/schemas";
import { evidence, heading, type Json, serve, stop, via } from "./commands.ts";

export interface Homes {
  readonly root: string;
  readonly vault: string;
  readonly trustee: (n: number) => string;
  readonly station: string;
  readonly release: string;
  readonly node: string;
  readonly devices: string;
  readonly witness: (n: number) => string;
}

export const TRUSTEES = ["Amara", "Bjarne", "Carmen", "Dinesh", "Esi"] as const;
export const THRESHOLD = 3;
/** Partners who cosign the log; two of them must. */
const WITNESSES = 3;
const WITNESS_QUORUM = 2;
const PORTS_TRIED = 100;
/** One tag for each demo device. */
const DEVICES = 3;

export function homesIn(root: string): Homes {
  const at = (...names: string[]) => path.join(root, ...names);
  return {
    root,
    vault: at("vault"),
    trustee: (n) => at("trustees", String(n)),
    station: at("station"),
    release: at("release"),
    node: at("node"),
    devices: at("devices"),
    witness: (n) => at("witnesses", String(n)),
  };
}

/** A passphrase that nobody has to remember, because it guards a demonstration. A person would type theirs. */
async function passphraseIn(home: string): Promise<string> {
  await ensureFolder(home, PRIVATE_FOLDER);
  const file = path.join(home, "passphrase");
  if (!existsSync(file)) await putImmutable(file, utf8(`${formatBase64Url(randomBytes(18))}\n`), PRIVATE_FILE);
  return file;
}

const keyOptions = async (home: string) => ["--home", home, "--passphrase-file", await passphraseIn(home)];

export function hasAuthority(homes: Homes): boolean {
  return existsSync(path.join(homes.vault, "public", "root", "1.root.json"));
}

/**
 * Five trustees, a station and a release officer make cards, three partners a witness's key.
 * @param software the authority's own keys are files
 */
export async function drawUp(homes: Homes, firstPort: number, software: boolean): Promise<void> {
  heading("Genesis: five trustees found an authority");
  const cards: string[] = [];
  for (const [i, name] of TRUSTEES.entries()) {
    const home = homes.trustee(i + 1);
    await via(["trustee", "init", "--name", name, ...(await keyOptions(home))]);
    cards.push("--trustee", path.join(home, "card.json"));
  }
  await via(["writer", "init", "--name", "Station 1", ...(await keyOptions(homes.station))]);
  await via(["writer", "init", "--release", "--name", "Release officer", ...(await keyOptions(homes.release))]);
  cards.push("--station", path.join(homes.station, "card.json"), "--release", path.join(homes.release, "card.json"));
  let port = firstPort;
  for (let n = 1; n <= WITNESSES; n++) {
    const home = homes.witness(n);
    port = await freePort(port + 1);
    const address = `127.0.0.1:${port}`;
    const { vkey } = await via([
      "audit",
      "witness",
      "init",
      "--name",
      `partner-${n}.example`,
      ...(await keyOptions(home)),
    ]);
    await putImmutable(path.join(home, "address"), utf8(address));
    cards.push("--witness", `${vkey}+http://${address}/`);
  }
  const quorums = ["--threshold", String(THRESHOLD), "--quorum", String(WITNESS_QUORUM)];
  await via(["vault", "init", "--home", homes.vault, ...quorums, ...cards, ...(software ? ["--software"] : [])]);
}

/** Each in a process of its own, as on another continent: the log is what `vault init` gave them. */
export async function startWitnesses(homes: Homes): Promise<readonly ChildProcess[]> {
  const logs = path.join(homes.vault, "genesis", "targets", "trust", "tlog-policy");
  const started: ChildProcess[] = [];
  try {
    for (let n = 1; n <= WITNESSES; n++) {
      const home = homes.witness(n);
      const address = readFileSync(path.join(home, "address"), "utf8");
      const listen = ["--logs", logs, "--listen", address, ...(await keyOptions(home))];
      started.push((await serve(["audit", "witness", "serve", ...listen])).child);
    }
    return started;
  } catch (error) {
    for (const child of started) await stop(child);
    throw error;
  }
}

/** The trustees sign what their own tools built. */
export async function genesis(homes: Homes): Promise<void> {
  let words = "";
  for (let n = 1; n <= TRUSTEES.length; n++) {
    const home = homes.trustee(n);
    const enrolled = await via([
      "trustee",
      "enroll",
      "--genesis",
      path.join(homes.vault, "genesis"),
      "--yes",
      ...(await keyOptions(home)),
    ]);
    words = String(enrolled.words);
  }
  evidence("authority", words);
  await via(["vault", "genesis", "--home", homes.vault]);
  const root = path.join(homes.vault, "public", "root", "1.root.json");
  for (const home of [homes.station, homes.release])
    await via(["writer", "enroll", "--root", root, "--home", home, "--yes"]);
}

/** Into the policy that trustees sign, so it stays for good. */
async function freePort(from: number): Promise<number> {
  for (let candidate = from; candidate < from + PORTS_TRIED; candidate++) {
    const server = createServer();
    const bound = new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(candidate, "127.0.0.1", () => resolve(true));
    });
    if (!(await bound)) continue;
    await new Promise((resolve) => server.close(resolve));
    return candidate;
  }
  throw new OperationError("ERR_PORT", `no free port from ${from} on`);
}

/** Request, three approvals, and the batch that comes of it. @returns its number */
export async function issue(homes: Homes, vaultUrl: string): Promise<number> {
  heading("Request: one token for each device");
  const subjects = path.join(homes.devices, "subjects.txt");
  await writeSubjects(homes, subjects);
  const requested = await via(["vault", "request", "--home", homes.vault, "--vault", vaultUrl, "--subjects", subjects]);
  const event = String(requested.event);
  evidence("event", String(requested.words));

  heading(`Quorum: ${THRESHOLD} of ${TRUSTEES.length} trustees see what they sign, and sign it`);
  for (let n = 1; n <= THRESHOLD; n++) {
    const home = homes.trustee(n);
    const review = await via(["trustee", "review", event, "--vault", vaultUrl, "--home", home]);
    if (n === 1) for (const line of summaryOf(review)) evidence("sees", line);
    await via(["trustee", "sign", event, "--yes", "--vault", vaultUrl, ...(await keyOptions(home))]);
    evidence("signed", TRUSTEES[n - 1]!);
  }

  heading("The HSM signs, the log grows, the files are published");
  const published = await via(["vault", "wait", event, "--vault", vaultUrl, "--home", homes.vault]);
  evidence("batch", String(published.batch));
  evidence("checkpoint", String(published.checkpoint).split("\n").slice(0, 3).join(" "));
  return Number(published.batch);
}

async function writeSubjects(homes: Homes, file: string): Promise<void> {
  await ensureFolder(homes.devices, PRIVATE_FOLDER);
  const first = readdirSync(homes.devices, { withFileTypes: true }).filter((entry) => entry.isDirectory()).length + 1;
  const dids: string[] = [];
  for (let n = first; n < first + DEVICES; n++) {
    const device = await via(["node", "device", "--home", path.join(homes.devices, String(n))]);
    dids.push(String(device.did));
  }
  await writeFile(file, `${dids.join("\n")}\n`);
}

/** Who gets how many tokens of which profile until when, as this trustee's tool computed it from the bodies. */
function summaryOf(review: Json): string[] {
  const batches = review.batches as readonly Json[];
  return batches.map((batch) => {
    const until = new Date(Number(batch.exp) * 1000).toISOString().slice(0, 10);
    return `batch ${batch.seq}: ${batch.count} tokens of ${batch.profile} until ${until}`;
  });
}

export interface WrittenTag {
  readonly index: number;
  readonly uid: string;
  readonly dump: string;
}

/** The station fetches its kit, writes tags through PC/SC without a network, and brings back receipts. */
export async function write(
  homes: Homes,
  vaultUrl: string,
  batch: number,
  environment: NodeJS.ProcessEnv,
): Promise<readonly WrittenTag[]> {
  heading("Tags: a sealed kit is written on a USB reader, offline");
  const options = await keyOptions(homes.station);
  await via(["writer", "fetch", "--batch", String(batch), "--vault", vaultUrl, ...options]);
  const tags = path.join(homes.station, "tags");
  await ensureFolder(tags);
  // Short, because the path of a UNIX socket has at most 107 bytes.
  const sockets = await mkdtemp(path.join(tmpdir(), "via-"));
  const simulator = await startSimulator({ folder: sockets });
  try {
    await simulator.hand({ folder: sockets, model: "ntag213", count: DEVICES, pauseMs: 50 });
    const env = { ...environment, PCSCLITE_CSOCK_NAME: simulator.sockets.pcsc };
    const written = await via(["writer", "write", "--batch", String(batch), ...options], { env });
    const list: WrittenTag[] = [];
    for (const { index, uid } of written.tags as readonly { index: number; uid: string }[]) {
      evidence("tag", `UID ${uid} carries token ${index}`);
      const dump = path.join(tags, `${index}.bin`);
      await simulator.saveTag(uid, dump);
      list.push({ index, uid, dump });
    }
    await via(["writer", "upload", "--vault", vaultUrl, ...options]);
    return list;
  } finally {
    await simulator.stop();
    await rm(sockets, { recursive: true, force: true });
  }
}

/** A node that holds nothing but the pinned root and its own copy of the published files. */
export async function decide(
  homes: Homes,
  vaultUrl: string,
  batch: number,
  tag: WrittenTag,
): Promise<readonly string[]> {
  const verdicts: string[] = [];
  if (!existsSync(path.join(homes.node, "root.json"))) {
    heading("Node: pins the root it was given");
    const root = path.join(homes.vault, "public", "root", "1.root.json");
    await via(["node", "init", "--root", root, "--home", homes.node, "--yes"]);
  }
  heading("Before its release a token is refused");
  verdicts.push(await check(homes, tag, 1));

  heading("Release: another person than the writer says that the tags arrived");
  const options = ["--vault", vaultUrl, ...(await keyOptions(homes.release))];
  const released = await via(["writer", "release", "--batch", String(batch), "--yes", ...options]);
  await via(["vault", "wait", String(released.event), "--vault", vaultUrl, "--home", homes.vault]);
  verdicts.push(await check(homes, tag, 0));

  heading("Revocation: two trustees, and the node refuses");
  const revoke = ["--index", String(tag.index), "--reason", "lost", "--vault", vaultUrl, "--yes"];
  const opened = await via(["trustee", "revoke", ...revoke, ...(await keyOptions(homes.trustee(4)))]);
  evidence("event", String(opened.words));
  await via([
    "trustee",
    "sign-event",
    String(opened.id),
    "--yes",
    "--vault",
    vaultUrl,
    ...(await keyOptions(homes.trustee(5))),
  ]);
  await via(["vault", "wait", String(opened.id), "--vault", vaultUrl, "--home", homes.vault]);
  verdicts.push(await check(homes, tag, 1));
  return verdicts;
}

/** Copies the published files, as a stick or a mirror would, refreshes from the copy and asks. */
async function check(homes: Homes, tag: WrittenTag, expected: number): Promise<string> {
  const mirror = path.join(homes.node, "mirror");
  await rm(mirror, { recursive: true, force: true });
  await cp(path.join(homes.vault, "public"), mirror, { recursive: true });
  await via(["node", "refresh", "--from", mirror, "--home", homes.node]);
  const verdict = await via(["node", "check", "--dump", tag.dump, "--home", homes.node], { expected });
  evidence("verdict", String(verdict.code));
  return String(verdict.code);
}

/** The whole log, from nothing but its key. */
export async function audit(homes: Homes): Promise<void> {
  heading("Audit: the whole log, from nothing but its key");
  const published = path.join(homes.vault, "public");
  const report = await via(["audit", "log", published, "--vkey", path.join(published, "log.vkey")]);
  evidence("entries", String(report.size));
}
