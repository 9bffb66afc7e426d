/** For tests: a whole authority in a temporary home, with SoftHSM, signer process and database; trustees from seeds. */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { ensureFolder } from "@viafabric/platform";
import {
  type Action,
  EVENT_CONTEXT,
  encodeEventBody,
  formatBase64,
  formatDidKey,
  formatHex,
  parseBase64,
  type Signer,
  sha256,
  signingInput,
  signRequest,
  utf8,
} from "@viafabric/schemas";
import { type CardRole, createEnrolmentCard, POLICY_PATH, signGenesis, signMetadata } from "@viafabric/tuf";
import { namedSigner } from "./fixtures.test.ts";
import { initVault } from "./founding.ts";
import type { Lifetimes } from "./genesis.ts";
import { type Home, homeAt } from "./home.ts";
import { runGenesis, type Service, type ServiceOptions, startService } from "./service.ts";
import type { TestWitness } from "./testing-witness.test.ts";

export const TRUSTEES = [1, 2, 3].map((n) => namedSigner(`living trustee ${n}`));
export const STATION = namedSigner("living station");
export const RELEASE = namedSigner("living release officer");

export interface TestClock {
  now: number;
}

export interface LivingVault {
  readonly home: Home;
  /** For whoever opens the parts of a service itself. */
  readonly options: ServiceOptions;
  readonly clock: TestClock;
  readonly disk: { free: number };
  readonly authority: Uint8Array;
  service: Service;
  readonly reports: string[];
  start(statementSeconds?: number): Promise<void>;
  send(signer: Signer | undefined, method: string, url: string, body?: unknown): Promise<Record<string, unknown>>;
}

export interface Founding extends Pick<ServiceOptions, "databaseUrl"> {
  /** Of the log, whose key they learn here. */
  readonly witnesses?: readonly TestWitness[];
  readonly quorum?: number;
  readonly lifetimes?: Partial<Lifetimes>;
}

/** Two of three trustees, one station, one officer; nothing issued yet; the service is not started. */
export async function foundedVault({
  databaseUrl,
  witnesses = [],
  quorum = 1,
  lifetimes = {},
}: Founding = {}): Promise<LivingVault> {
  const folder = await mkdtemp(path.join(tmpdir(), "via-"));
  await chmod(folder, 0o755);
  const home = homeAt(path.join(folder, "vault"));
  const clock = { now: Math.floor(Date.now() / 1000) };
  const disk = { free: Number.POSITIVE_INFINITY };
  const reports: string[] = [];
  const options = {
    databaseUrl,
    now: () => Math.max(clock.now, Math.floor(Date.now() / 1000)),
    freeBytes: async () => disk.free,
    report: (line: string, details: Readonly<Record<string, unknown>>) => {
      reports.push(line);
      if (details.error) process.stderr.write(`${line}: ${String((details.error as Error).stack)}\n`);
    },
  };
  const card = async (signer: Signer, role: CardRole) =>
    (await createEnrolmentCard(signer, { name: role, role })).bytes;
  const genesis = await initVault(home, {
    trustees: await Promise.all(TRUSTEES.map((signer) => card(signer, "trustee"))),
    stations: [await card(STATION, "station")],
    releases: [await card(RELEASE, "release")],
    threshold: 2,
    host: "vault.example",
    ...(witnesses.length > 0 && { witnesses: { listed: witnesses, quorum } }),
    passphrase: "only a test",
    lifetimes,
    now: clock.now,
  });
  for (const witness of witnesses) witness.know(genesis.targetFiles.get(POLICY_PATH)!);
  await ensureFolder(path.join(home.genesis, "signatures"));
  for (const trustee of TRUSTEES.slice(0, 2)) {
    const file = path.join(home.genesis, "signatures", `${formatHex(trustee.publicKey.kid)}.json`);
    await writeFile(file, await signGenesis(trustee, genesis));
  }
  await runGenesis(home, options);
  const vault: LivingVault = {
    home,
    options,
    clock,
    disk,
    authority: genesis.authority,
    service: undefined as unknown as Service,
    reports,
    async start(statementSeconds = 3600) {
      vault.service = await startService(home, { ...options, statementSeconds });
    },
    async send(signer, method, url, body) {
      const bytes = body === undefined ? new Uint8Array(0) : utf8(JSON.stringify(body));
      const request = { method, path: url, body: bytes, time: options.now(), nonce: new Uint8Array(randomBytes(16)) };
      const headers = signer ? await signRequest(signer, genesis.authority, request) : {};
      const response = await vault.service.app.inject({
        method: method as "GET",
        url,
        headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { payload: Buffer.from(bytes) }),
      });
      const json = response.json() as Record<string, unknown>;
      if (response.statusCode >= 300) throw new Error(`${method} ${url}: ${response.statusCode} ${response.body}`);
      return json;
    },
  };
  after(async () => {
    await vault.service?.stop();
    const moved = await readFile(`${home.db}.path`, "utf8").catch(() => undefined);
    if (moved) await rm(moved.trim(), { recursive: true });
    await rm(folder, { recursive: true });
  });
  return vault;
}

/** Waits until `look` finds something. */
export async function eventually<T>(look: () => Promise<T | undefined>, what: string, seconds = 60): Promise<T> {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${what} did not happen within ${seconds} s`);
}

export function batchRequest(count: number, now: number, station: Signer = STATION): Record<string, unknown> {
  const subjects = Array.from({ length: count }, (_, i) => formatDidKey(namedSigner(`device ${i}`).publicKey.raw));
  return {
    profile: "edge-basic",
    subjects,
    creditClass: "compute_hours",
    quota: 100,
    unit: "hours",
    nbf: now,
    claimBy: now + 30 * 86_400,
    exp: now + 90 * 86_400,
    claim: "known",
    layout: "compact",
    tagClass: "ntag213",
    offline: "none",
    station: formatHex(station.publicKey.kid),
    release: formatHex(RELEASE.publicKey.kid),
  };
}

export async function approveAs(vault: LivingVault, trustee: Signer, id: string): Promise<void> {
  const event = await vault.send(undefined, "GET", `/events/${id}`);
  const sign = async (signed: unknown) => signMetadata(trustee, parseBase64(String(signed)));
  const { keyid, sig } = await sign(event.signed);
  const parts = Object.entries((event.parts ?? {}) as Record<string, string>).map(
    async ([role, signed]) => [role, formatHex((await sign(signed)).sig)] as const,
  );
  const body = {
    keyid,
    signature: formatHex(sig),
    ...(event.parts !== undefined && { parts: Object.fromEntries(await Promise.all(parts)) }),
  };
  await vault.send(trustee, "POST", `/events/${id}/approvals`, body);
}

/** Asks for a rotation. @returns the event's id */
export async function requestedRotation(vault: LivingVault, by: Signer, change: object): Promise<string> {
  const { id } = await vault.send(by, "POST", "/rotation-requests", change);
  return eventually(async () => {
    const request = await vault.send(undefined, "GET", `/requests/${id}`);
    if (request.refusal) throw new Error(String(request.refusal));
    return request.event as string | undefined;
  }, "a rotation");
}

/** Requests a batch and has two trustees approve it. @returns the event's id */
export async function approvedBatch(
  vault: LivingVault,
  operator: Signer,
  count: number,
  trustees: readonly Signer[] = TRUSTEES.slice(0, 2),
): Promise<string> {
  const { id } = await vault.send(operator, "POST", "/requests", batchRequest(count, vault.clock.now));
  const event = await eventually(async () => {
    const request = await vault.send(undefined, "GET", `/requests/${id}`);
    if (request.refusal) throw new Error(String(request.refusal));
    return request.event as string | undefined;
  }, "a proposal");
  for (const trustee of trustees) await approveAs(vault, trustee, event);
  return event;
}

export async function statusEventOf(
  vault: LivingVault,
  action: Action,
  first: number,
  count: number,
  signer: Signer,
  undoes: readonly number[] = [],
): Promise<{ id: string; body: string; signature: string }> {
  const body = encodeEventBody({
    authority: vault.authority,
    action,
    ranges: [{ first, count }],
    reason: "a test",
    notAfter: vault.clock.now + 7200,
    undoes,
    nonce: new Uint8Array(randomBytes(16)),
  });
  const signature = await signer.sign(signingInput(EVENT_CONTEXT, vault.authority, body));
  return { id: formatHex(sha256(body)), body: formatBase64(body), signature: formatBase64(signature) };
}
