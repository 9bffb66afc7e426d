/**
 * A vault in operation: PostgreSQL and the bounded signer as children, the sequencer, the app. Started in that order and
 * stopped in the other one; whatever fails on the way stops what was started before it.
 */
import { randomBytes } from "node:crypto";
import { readSignerConfig, type SignerClient, type SignerProcess, startSigner } from "@viafabric/hsm/signer";
import {
  ensureFolder,
  freeBytes,
  lockFolder,
  PRIVATE_FOLDER,
  readFileBounded,
  removeTemporaries,
} from "@viafabric/platform";
import { METADATA_BYTES_MAX } from "@viafabric/tuf";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { buildApp } from "./app.ts";
import type { DeskDependencies } from "./desk.ts";
import { foundAuthority, publishGenesis } from "./founding.ts";
import type { Genesis } from "./genesis.ts";
import { GENESIS_FILE_BYTES_MAX, parseSettings } from "./genesis-folder.ts";
import { type Home, readHomeFile } from "./home.ts";
import { sealedKit } from "./kit-material.ts";
import { expiriesOf, Notifier, openChannels } from "./notifier.ts";
import { openDatabase } from "./postgres.ts";
import { onlineLives } from "./round.ts";
import { SECRET_KEY_BYTES } from "./secrets.ts";
import { Sequencer } from "./sequencer.ts";
import { signerLink } from "./signer-link.ts";
import { openStore, type Store } from "./store.ts";

export interface ServiceOptions {
  /** A database elsewhere; the embedded one when left out. */
  readonly databaseUrl?: string | undefined;
  /** The signer runs as a service of its own: it is neither started nor stopped here. */
  readonly attachSigner?: boolean;
  /** Unix seconds. */
  readonly now: () => number;
  /** Free space on the vault's disks; asked of the system when left out. */
  readonly freeBytes?: () => Promise<number>;
  readonly report: (line: string, details: Readonly<Record<string, unknown>>) => void;
}

export interface Service {
  readonly app: FastifyInstance;
  readonly sequencer: Sequencer;
  /** Settles when the signer has ended: without it the vault can do nothing but serve files. */
  readonly signerEnded: Promise<void>;
  stop(): Promise<void>;
}

const FIRST = "run `via vault init`, let the trustees sign, then run `via vault genesis`";

/** `via vault genesis`. @throws VerificationError ERR_THRESHOLD until k trustees have signed */
export async function runGenesis(home: Home, options: ServiceOptions): Promise<Genesis> {
  const founded = await foundAuthority(home, options.now());
  await withParts(home, options, async ({ deps }) => publishGenesis(deps, founded));
  return founded.genesis;
}

/** Everything but the listening socket. */
export async function startService(
  home: Home,
  options: ServiceOptions & { readonly statementSeconds: number; readonly logger?: FastifyBaseLogger },
): Promise<Service> {
  const parts = await openParts(home, options);
  const { deps, signer } = parts;
  try {
    const sequencer = await Sequencer.open({ ...deps, ...options });
    parts.closers.push(() => sequencer.stop());
    const published = () => sequencer.desk.need();
    const authority = published().trusted.authority;
    await deps.store.bindAuthority(authority, options.now());
    const app = await buildApp({
      store: deps.store,
      trust: () => published().trusted,
      ownApprovals: deps.settings.ownApprovals,
      joining: () => sequencer.joining,
      publicFolder: home.public,
      sealKit: (kit, publicKey) => sealedKit(sequencer.desk, kit, publicKey),
      now: options.now,
      freeBytes: deps.freeBytes,
      wake: () => sequencer.wake(),
      health: () => sequencer.health(),
      ...(options.logger && { logger: options.logger }),
    });
    parts.closers.push(async () => app.close());
    const notifier = new Notifier({
      store: deps.store,
      authority,
      channels: await openChannels(home, authority),
      expiries: async () => expiriesOf(published().trusted, onlineLives(await deps.signer.state()), options.now()),
      now: options.now,
      report: options.report,
    });
    parts.closers.push(() => notifier.stop());
    sequencer.start();
    notifier.start();
    return { app, sequencer, signerEnded: signer.exited, stop: () => parts.close() };
  } catch (error) {
    await parts.close();
    throw error;
  }
}

type RunningSigner = Pick<SignerProcess, "socket" | "exited">;

/** Database, signer and what both are needed for; nothing runs yet. */
export interface Parts {
  readonly deps: DeskDependencies;
  readonly signer: RunningSigner;
  readonly closers: (() => Promise<void>)[];
  close(): Promise<void>;
}

async function withParts(home: Home, options: ServiceOptions, work: (parts: Parts) => Promise<void>): Promise<void> {
  const parts = await openParts(home, options);
  try {
    await work(parts);
  } finally {
    await parts.close();
  }
}

export async function openParts(home: Home, options: ServiceOptions): Promise<Parts> {
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (let closer = closers.pop(); closer; closer = closers.pop()) await closer();
  };
  try {
    const pinnedRoot = await readHomeFile(home.pinnedRoot, METADATA_BYTES_MAX.root, FIRST);
    const settings = parseSettings(await readHomeFile(home.settings, GENESIS_FILE_BYTES_MAX, FIRST));
    const config = await readSignerConfig(home.signerConfig);
    closers.push(await lockFolder(home.private));
    // Nobody else writes there, and nothing here has begun to: what is unfinished has no writer any more.
    const unfinished = await removeTemporaries(home.public);
    if (unfinished > 0) options.report("unfinished writes of a killed process were removed", { unfinished });
    const [store, { signer, client }] = await together([
      openTables(home, options, closers),
      openSigner(home, options, closers),
    ]);
    await ensureFolder(home.staging, PRIVATE_FOLDER);
    const deps: DeskDependencies = {
      store,
      signer: client,
      publicFolder: home.public,
      stagingFolder: home.staging,
      transcriptsFolder: home.transcripts,
      splitFile: home.split,
      pinnedRoot,
      logKey: config.keys.log[0]!.publicKey,
      settings,
      secretKey: await readFileBounded(home.vaultKey, SECRET_KEY_BYTES),
      random: (length) => new Uint8Array(randomBytes(length)),
      now: options.now,
      freeBytes:
        options.freeBytes ?? (async () => Math.min(await freeBytes(home.public), await freeBytes(home.staging))),
    };
    return { deps, signer, closers, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openTables(home: Home, options: ServiceOptions, closers: Parts["closers"]): Promise<Store> {
  const database = await openDatabase({ folder: home.db, url: options.databaseUrl });
  closers.push(() => database.stop());
  const store = await openStore(database.target);
  closers.push(() => store.close());
  return store;
}

async function openSigner(
  home: Home,
  options: ServiceOptions,
  closers: Parts["closers"],
): Promise<{ readonly signer: RunningSigner; readonly client: SignerClient }> {
  const signer = await (options.attachSigner ? attachedSigner(home) : ownSigner(home, options, closers));
  const client = await signerLink(signer.socket);
  closers.push(() => client.close());
  return { signer, client };
}

async function ownSigner(home: Home, options: ServiceOptions, closers: Parts["closers"]): Promise<RunningSigner> {
  const signer = await startSigner(home.signerConfig, (line) => options.report("signer", { line }));
  closers.push(() => signer.stop());
  return signer;
}

/** Its service manager starts it again when it ends, and the link finds it again. */
async function attachedSigner(home: Home): Promise<RunningSigner> {
  return { socket: (await readSignerConfig(home.signerConfig)).socket, exited: new Promise(() => {}) };
}

/** Both at once, because each is a process that takes its time; when one fails the other is still waited for. */
async function together<A, B>(work: readonly [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
