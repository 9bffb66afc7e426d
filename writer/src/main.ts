/** `via writer`: a writing station, and the release officer: writes approved tokens onto tags, offline. */
import { randomBytes } from "node:crypto";
import { DEFAULT_PCSC_SOCKET, type NfcReader, openReader } from "@viafabric/nfc/reader";
import {
  type Command,
  confirm,
  createKeystore,
  lockFolder,
  type Output,
  openKeystore,
  outputOf,
  PUBLIC_FILE,
  program,
  readFileBounded,
  readKeystorePublicKey,
  readPassphrase,
  runProgram,
  writeFileDurable,
} from "@viafabric/platform";
import { formatHex, formatWords, OperationError, parseDecimal, type Signer, sha256 } from "@viafabric/schemas";
import { type Mirror, openMirrors, tryMirrors } from "@viafabric/transparency-log/client";
import { createEnrolmentCard, METADATA_BYTES_MAX } from "@viafabric/tuf";
import { assertClock } from "@viafabric/tuf/client";
import { fetchKit, refreshStation } from "./fetch-kit.ts";
import { createHome, type Home, homeAt, loadStationTrust, pinRoot, readEnrolment, readRoot } from "./home.ts";
import { findKit, type KitSummary, ledgerFile, listKits, openKit } from "./kits.ts";
import { type Ledger, type LedgerCounts, openLedger } from "./ledger.ts";
import { signReceipt } from "./receipt.ts";
import { readManifest, releaseRanges, signRelease } from "./release.ts";
import { openScreen } from "./screen.ts";
import { sendReceipts } from "./upload.ts";
import { publicUrl, vaultClient } from "./vault-client.ts";
import { type VerifiedKit, verifyKit } from "./verify-kit.ts";
import { writeTags } from "./write-tags.ts";

const DEFAULT_HOME = ".via/station";
const NO_UID = new Uint8Array(0);

const now = () => Math.floor(Date.now() / 1000);

const writer = program("via writer", "Write approved tokens onto NFC tags, offline").addHelpText(
  "after",
  `
Examples
  via writer init --name "Station Nairobi"             make a key; give card.json to the vault's genesis
  via writer init --release --name "Release officer" --home .via/release
  via writer enroll --root 1.root.json                 pin the authority; compare the words it shows by voice
  via writer fetch --vault https://vault.example --batch 0
  via writer write                                     lay tag after tag on the reader; wait for each beep
  via writer upload --vault https://vault.example      bring the receipts back
  via writer release --batch 0 --vault https://vault.example --home .via/release

Exit codes: 0 done, 1 refused, 2 usage, 3 reader or PC/SC service missing, 4 failed on the way`,
);

const withHome = (command: Command): Command =>
  command
    .option("--home <folder>", "home of the station or officer", DEFAULT_HOME)
    .option("--passphrase-file <file>", "passphrase of the key; asked for when left out");

const withMirrors = (command: Command): Command =>
  command.option(
    "--from <source>",
    "read published files from here instead of the vault: any mirror, a stick; once for each",
    (source: string, list: readonly string[] = []) => [...list, source],
  );

withHome(writer.command("init"))
  .description("make a key and an enrolment card")
  .requiredOption("--name <name>", "for people: who or where this is")
  .option("--release", "a release officer instead of a writing station")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    await createHome(home);
    const signer = await createKeystore(home.keystore, await readPassphrase(options.passphraseFile));
    const role = options.release ? "release" : "station";
    const card = await createEnrolmentCard(signer, { name: options.name, role });
    await writeFileDurable(home.card, card.bytes, PUBLIC_FILE);
    const kid = formatHex(signer.publicKey.kid);
    out.result({ home: home.folder, role, kid, card: home.card }, () => {
      out.line(`key ${kid}`);
      out.line(`next: give ${home.card} to the vault's genesis, then via writer enroll --root FILE`);
    });
  });

writer
  .command("enroll")
  .description("pin the authority that this key belongs to")
  .requiredOption("--root <file>", "the root metadata, obtained over a channel you trust")
  .option("--home <folder>", "home of the station or officer", DEFAULT_HOME)
  .option("--yes", "the words were compared already")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    await readKeystorePublicKey(home.keystore);
    const enrolment = readRoot(await readFileBounded(options.root, METADATA_BYTES_MAX.root));
    const words = formatWords(enrolment.authority);
    if (!options.yes) {
      process.stderr.write(`The authority of ${options.root} is\n\n  ${words}\n\n`);
      if (!(await confirm("Are these the words you were told by the trustees?")))
        throw new OperationError("ERR_CONFIRMATION", "nothing was pinned; compare the words, or pass --yes if you did");
    }
    await pinRoot(home, enrolment);
    out.result({ authority: formatHex(enrolment.authority), words }, () => {
      out.line(`pinned ${formatHex(enrolment.authority)}`);
    });
  });

withMirrors(withHome(writer.command("fetch")))
  .description("fetch the sealed kit of a batch, and all that is needed to check it offline")
  .requiredOption("--vault <url>", "address of the vault")
  .requiredOption("--batch <number>", "the batch")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const { home, enrolment, vault } = await connect(options);
    const mirrors = mirrorsOf(options);
    const kit = await fetchKit({ home, enrolment, vault, mirrors, now: now() }, parseDecimal(options.batch));
    out.result(kit, () => {
      out.line(`batch ${kit.batch}: ${kit.count} tokens from ${kit.first} on, sealed in ${home.kits}/${kit.id}`);
      out.line("next: via writer write");
    });
  });

withHome(writer.command("write"))
  .description("write the tokens of a kit onto tags; needs no network")
  .option("--batch <number>", "batch of the kit; the only kit when left out")
  .option("--reader <name...>", "readers to use; the first one found when left out")
  .option("--count <number>", "stop after so many tags")
  .option("--idle <seconds>", "give up when no tag is laid down for so long")
  .option("--overwrite", "replace what else stands on a tag")
  .option("--lock", "make each tag read-only for ever")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const summary = await findKit(home, batchOf(options.batch));
    const unlock = await lockFolder(home.folder);
    try {
      const { signer, verified, ledger } = await openWork(home, summary, options.passphraseFile);
      const screen = openScreen(out, ledger, summary);
      // A finished kit needs no reader to be told that it is finished.
      const readers = ledger.isComplete ? [] : await openReaders(options.reader, out);
      const interrupted = new AbortController();
      process.once("SIGINT", () => interrupted.abort(new OperationError("ERR_TAG_TIMEOUT", "stopped at your request")));
      try {
        await writeTags(readers, {
          ...{ verified, ledger, signer, now, report: screen.show },
          options: {
            overwrite: Boolean(options.overwrite),
            lock: Boolean(options.lock),
            signal: interrupted.signal,
            ...(options.count === undefined ? {} : { count: parseDecimal(options.count) }),
            ...(options.idle === undefined ? {} : { idleMs: 1000 * parseDecimal(options.idle) }),
          },
        });
        screen.finish();
      } finally {
        for (const reader of readers) reader.close();
        screen.close();
        await ledger.close();
      }
    } finally {
      await unlock();
    }
  });

withHome(writer.command("void"))
  .description("give a serial up: its tag is spoiled or lost; it will never be released")
  .requiredOption("--index <number>", "the serial")
  .option("--batch <number>", "batch of the kit; the only kit when left out")
  .option("--yes", "do not ask")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const summary = await findKit(home, batchOf(options.batch));
    const index = parseDecimal(options.index);
    if (index < summary.first || index >= summary.first + summary.count)
      throw new OperationError("ERR_SERIAL", `serial ${index} is not in the kit of batch ${summary.batch}`);
    if (!options.yes && !(await confirm(`Give serial ${index} up for ever?`)))
      throw new OperationError("ERR_CONFIRMATION", "nothing was given up");
    const unlock = await lockFolder(home.folder);
    try {
      const { signer, verified, ledger } = await openWork(home, summary, options.passphraseFile);
      const { uid, imageHash } = ledger.serialAt(index)?.reservation ?? { uid: NO_UID, imageHash: new Uint8Array(32) };
      const outcome = { index, result: "void", uid, imageHash, locked: false, time: now() } as const;
      await ledger.finish(index, "void", (place) => signReceipt(signer, verified, outcome, place));
      await ledger.close();
      out.result({ index, result: "void" }, () => out.line(`serial ${index} is void`));
    } finally {
      await unlock();
    }
  });

withHome(writer.command("upload"))
  .description("bring the receipts of all kits to the vault")
  .requiredOption("--vault <url>", "address of the vault")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const { home, vault } = await connect(options);
    const unlock = await lockFolder(home.folder);
    try {
      const rows: { batch: number; sent: number; receipts: number }[] = [];
      for (const kit of await listKits(home)) {
        const ledger = await openKitLedger(home, kit);
        rows.push({ batch: kit.batch, sent: await sendReceipts(vault, kit, ledger), receipts: ledger.receipts.length });
        await ledger.close();
      }
      out.result(rows, () => {
        out.table(
          ["batch", "sent now", "receipts"],
          rows.map(({ batch, sent, receipts }) => [batch, sent, receipts]),
        );
      });
    } finally {
      await unlock();
    }
  });

withMirrors(withHome(writer.command("release")))
  .description("release officer: switch the tokens of a batch on")
  .requiredOption("--vault <url>", "address of the vault")
  .requiredOption("--batch <number>", "the batch")
  .option("--without <list>", "serials of spoiled tags, such as 17,40")
  .option("--reason <text>", "stands in the public log", "tags written and delivered")
  .option("--wait <seconds>", "how long to wait until it is published", "60")
  .option("--yes", "do not ask")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const { home, enrolment, vault, signer } = await connect(options);
    const batch = parseDecimal(options.batch);
    const { value: manifest } = await tryMirrors(mirrorsOf(options), async (published) => {
      const trust = await refreshStation({ home, enrolment, now: now() }, published);
      return readManifest(trust, published, batch);
    });
    const without =
      options.without === undefined
        ? []
        : String(options.without)
            .split(",")
            .map((text) => parseDecimal(text));
    const ranges = releaseRanges(manifest, without);
    const count = ranges.reduce((sum, range) => sum + range.count, 0);
    process.stderr.write(
      `Release ${count} of ${manifest.count} tokens of batch ${manifest.seq} (${manifest.profile}, ${manifest.quota} ${manifest.unit} each).\n`,
    );
    if (!options.yes && !(await confirm("Are the tags in the right hands?")))
      throw new OperationError("ERR_CONFIRMATION", "nothing was released; pass --yes if you have decided");
    const nonce = new Uint8Array(randomBytes(16));
    const { body, signature } = await signRelease(signer, manifest, ranges, {
      reason: options.reason,
      nonce,
      now: now(),
    });
    await vault.proposeEvent(body, signature);
    const event = formatHex(sha256(body));
    const state = await vault.waitForEvent(event, 1000 * parseDecimal(options.wait));
    out.result({ batch: manifest.seq, released: count, event, state }, () => {
      out.line(`${count} tokens of batch ${manifest.seq}: their release is ${state}`);
    });
  });

writer
  .command("status")
  .description("the kits held here, and how far they are")
  .option("--home <folder>", "home of the station", DEFAULT_HOME)
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const key = await readKeystorePublicKey(home.keystore);
    // A ledger that another process is writing must not be opened: opening repairs its end.
    const unlock = await lockFolder(home.folder);
    const kits: (KitSummary & LedgerCounts & { unfinished: { index: number; uid: string }[] })[] = [];
    for (const kit of await listKits(home)) {
      const ledger = await openKitLedger(home, kit);
      const unfinished = ledger.unfinished.map(({ index, reservation }) => {
        return { index, uid: reservation ? formatHex(reservation.uid) : "" };
      });
      kits.push({ ...kit, ...ledger.counts, unfinished });
      await ledger.close();
    }
    await unlock();
    out.result({ kid: formatHex(key.kid), kits }, () => {
      out.line(`key ${formatHex(key.kid)}`);
      out.table(
        ["batch", "tokens", "written", "void", "begun", "free", "uploaded"],
        kits.map((kit) => [kit.batch, kit.count, kit.written, kit.void, kit.reserved, kit.free, kit.uploaded]),
      );
    });
  });

process.exitCode = await runProgram(writer, process.argv);

function batchOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseDecimal(text);
}

interface ConnectOptions {
  readonly home: string;
  readonly vault: string;
  readonly passphraseFile?: string;
}

function mirrorsOf({ vault, from }: { readonly vault: string; readonly from?: readonly string[] }): readonly Mirror[] {
  return openMirrors(from ?? [publicUrl(vault)]);
}

async function connect(options: ConnectOptions) {
  const home = homeAt(options.home);
  const enrolment = await readEnrolment(home);
  const signer = await openKeystore(home.keystore, await readPassphrase(options.passphraseFile));
  return { home, enrolment, signer, vault: vaultClient(options.vault, enrolment.authority, signer, now) };
}

/** Everything that stands between a sealed kit and the first tag. */
async function openWork(
  home: Home,
  summary: KitSummary,
  passphraseFile: string | undefined,
): Promise<{ signer: Signer; verified: VerifiedKit; ledger: Ledger }> {
  await assertClock(home.trust, now());
  const trust = await loadStationTrust(home, await readEnrolment(home));
  const signer = await openKeystore(home.keystore, await readPassphrase(passphraseFile));
  const { kit, manifestProof } = await openKit(home, summary);
  const verified = verifyKit(kit, { trust, station: signer.publicKey.kid, manifestProof }, now());
  return { signer, verified, ledger: await openLedger(ledgerFile(home, summary), kit) };
}

async function openKitLedger(home: Home, summary: KitSummary): Promise<Ledger> {
  const { kit } = await openKit(home, summary);
  return openLedger(ledgerFile(home, summary), kit);
}

async function openReaders(names: readonly string[] | undefined, out: Output): Promise<readonly NfcReader[]> {
  const socket = process.env.PCSCLITE_CSOCK_NAME ?? DEFAULT_PCSC_SOCKET;
  const onUnpowered = () => out.note("a tag is felt but does not answer: lay it flat and still");
  const readers: NfcReader[] = [];
  try {
    for (const name of names ?? [undefined]) {
      readers.push(await openReader({ socket, onUnpowered, ...(name === undefined ? {} : { name }) }));
    }
  } catch (error) {
    for (const reader of readers) reader.close();
    throw error;
  }
  return readers;
}
