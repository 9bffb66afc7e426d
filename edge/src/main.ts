/** `via node`: decides offline whether a tag is genuine, approved, logged, released and not revoked. */
import { generateKeyPairSync } from "node:crypto";
import path from "node:path";
import { parseTag } from "@viafabric/nfc";
import { DEFAULT_PCSC_SOCKET, openReader, readDump } from "@viafabric/nfc/reader";
import {
  type Command,
  confirm,
  EXIT,
  ensureFolder,
  outputOf,
  PRIVATE_FILE,
  PRIVATE_FOLDER,
  program,
  putImmutable,
  readFileBounded,
  runProgram,
} from "@viafabric/platform";
import {
  CodedError,
  formatDidKey,
  formatHex,
  formatWords,
  OperationError,
  parseDecimal,
  parsePublicKey,
  parseUtf8,
  sha256,
  TOKEN_BYTES_MAX,
  utf8,
} from "@viafabric/schemas";
import { type MirrorFailure, openMirrors } from "@viafabric/transparency-log/client";
import { parseClaim, verifyClaims, verifyRootChain } from "@viafabric/tuf";
import { checkToken, type NodeState, Refusal, type Verdict } from "@viafabric/verifier";
import { initHome, loadState, openHome } from "./home.ts";
import { exportPolicy, loadPolicy } from "./policy.ts";
import { holdIndex, refreshNode } from "./refresh.ts";
import { resolveSubject } from "./subject.ts";

const ROOT_BYTES_MAX = 512 * 1024;
/** Three digests in hex, or 24 words. */
const CLAIM_BYTES_MAX = 1024;
/** The root that names the authority, in the published tree. */
const FIRST_ROOT = "root/1.root.json";
/** The largest tag we know has 924 bytes. */
const DUMP_BYTES_MAX = 4096;
const DEFAULT_HOME = ".via/node";
const TAG_SECONDS_MAX = 120;

const now = () => Math.floor(Date.now() / 1000);

const node = program("via node", "Decide offline whether a tag may be used").addHelpText(
  "after",
  `
Examples
  via node init --root 1.root.json --home .via/node     pin an authority; compare the words it shows by voice
  via node refresh --from /media/stick/public           from a folder, a stick or a web server (http://…)
  via node refresh --from https://a.example --from https://b.example    the second where the first is down or old
  via node hold --index 4711 --from https://a.example   the bundle of one token's batch, found and proven
  via node check --dump tag.bin                         a memory dump of a tag
  via node check --reader                               a tag on the USB reader
  via node check --token token.cbor --json              any spelling of a token

Exit codes: 0 accept, 1 refused, 2 usage, 3 something is missing, 4 failed on the way`,
);

node
  .command("init")
  .description("pin the root of an authority")
  .option("--root <file>", "the root metadata, obtained over a channel you trust; else add --digest-from")
  .option("--root-from <source>", "take the root from published files (http(s) address or folder); needs --digest-from")
  .option(
    "--digest-from <channel=digest>",
    "the authority in hex or 24 words, or the line of a sheet, as a channel named it; @FILE reads it; two must agree",
    (text: string, list: readonly string[]) => [...list, text],
    [] as readonly string[],
  )
  .option("--home <folder>", "home of the node", DEFAULT_HOME)
  .option("--hardware", "refuse tokens and statements of keys that are not in hardware")
  .option("--development", "accept an authority that requires no witness")
  .option("--yes", "the words were compared already")
  .addHelpText(
    "after",
    `
Examples
  via node init --root 1.root.json
  via node init --root-from http://mirror.example/public --digest-from paper=4f0c… --digest-from dns="v=viafabric1 …"
  via node init --root 1.root.json --digest-from paper="24 words" --digest-from stick=@/media/stick/pin.txt

\`via trustee sheet\` prints what the channels carry.`,
  )
  .action(async (options: InitOptions, command: Command) => {
    const out = outputOf(command);
    const claims = (await Promise.all(options.digestFrom.map(readClaim))).map(parseClaim);
    const { rootFile, source } = await readRoot(options);
    const { authority } = verifyRootChain({ file: rootFile }, []);
    const isClaimed = claims.length > 0 || options.rootFrom !== undefined;
    const lineage = isClaimed ? verifyClaims(authority, sha256(rootFile), claims) : undefined;
    const words = formatWords(authority);
    if (!options.yes) process.stderr.write(`The authority of ${source} is\n\n  ${words}\n\n`);
    if (!options.yes && !(await confirm("Are these the words you were told by the trustees?")))
      throw new OperationError("ERR_CONFIRMATION", "nothing was pinned; compare the words, or pass --yes if you did");
    const home = await initHome(options.home, rootFile, {
      development: options.development === true,
      hardware: options.hardware === true,
      ...(lineage && { lineage: formatHex(lineage) }),
    });
    const result = {
      home: home.folder,
      authority: formatHex(home.authority),
      words,
      channels: claims.map(({ channel }) => channel),
      ...(lineage && { lineage: formatHex(lineage) }),
    };
    out.result(result, () => {
      out.line(`pinned ${formatHex(home.authority)} in ${home.folder}`);
      out.line(`next: via node refresh --from URL|FOLDER --home ${home.folder}`);
    });
  });

node
  .command("refresh")
  .description("bring metadata, status and bundles up to date")
  .requiredOption(
    "--from <source>",
    "http(s) address or folder of the published files; once for each mirror, the preferred one first",
    collectSources,
  )
  .option("--home <folder>", "home of the node", DEFAULT_HOME)
  .option("--batches <list>", "batches to hold besides those held, such as 0,3,4 or none; all when left out")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = await openHome(options.home);
    const batches = batchesOf(options.batches);
    let bar: ReturnType<typeof out.progress> | undefined;
    const report = await refreshNode(home, openMirrors(options.from), {
      batches,
      now: now(),
      onProgress: (done, total) => {
        bar ??= out.progress("bundles", total);
        bar.advance();
        if (done < total) return;
        bar.stop();
        bar = undefined;
      },
    });
    const { statement } = report.status.verified;
    const result = {
      authority: formatHex(home.authority),
      batchesVersion: report.trust.batchesVersion,
      headSize: report.trust.head.size,
      epoch: statement.epoch,
      covers: statement.n,
      held: report.held,
      refused: report.refused,
      mirror: report.mirror,
      failures: report.failures.map(failureJson),
      overdue: report.overdue,
    };
    for (const { mirror, code, message } of result.failures) out.note(`${mirror} was of no use: ${code}: ${message}`);
    out.result(result, () => {
      out.line(
        `head of ${result.headSize} batches (version ${result.batchesVersion}), status epoch ${result.epoch} over ${result.covers} tokens`,
      );
      out.line(`holding ${report.held.length} bundles, from ${report.mirror}`);
      if (report.overdue)
        out.line(out.style("yellow", `nothing newer anywhere, though a statement was due ${dateOf(statement.next)}`));
      for (const { seq, code, message } of report.refused)
        out.line(out.style("yellow", `batch ${seq} was not taken: ${code}: ${message}`));
    });
    if (report.refused.length > 0) process.exitCode = EXIT.refused;
  });

node
  .command("hold")
  .description("take the bundle of the batch that a token belongs to")
  .requiredOption("--index <number>", "index of the token, as a refused check tells it")
  .requiredOption("--from <source>", "as with refresh; once for each mirror", collectSources)
  .option("--home <folder>", "home of the node", DEFAULT_HOME)
  .addHelpText(
    "after",
    `
Metadata and status are brought up to date on the way. Which batch it is, is proven under the trustees' head.

Example
  via node hold --index 4711 --from https://mirror.example/public --home .via/node`,
  )
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = await openHome(options.home);
    const index = parseDecimal(options.index);
    const { batch, mirror, failures } = await holdIndex(home, openMirrors(options.from), index, now());
    const result = { index, batch: batch.seq, foundBy: batch.by, mirror, failures: failures.map(failureJson) };
    for (const { mirror: name, code, message } of result.failures)
      out.note(`${name} was of no use: ${code}: ${message}`);
    out.result(result, () => out.line(`holding batch ${batch.seq}, which covers index ${index}, from ${mirror}`));
  });

node
  .command("check")
  .description("give the verdict on one token")
  .option("--dump <file>", "memory dump of a tag")
  .option("--token <file>", "a token: compact, COSE or JSON")
  .option("--reader", "read the tag that lies on the reader")
  .option("--home <folder>", "home of the node", DEFAULT_HOME)
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const home = await openHome(options.home);
    const state = await loadState(home);
    const verdict = await judge(await readPresented(options), state);
    out.result(verdict, () => {
      const good = verdict.code === "accept";
      out.line(out.style(good ? "green" : "red", verdict.code + (good && verdict.aging ? " (aging)" : "")));
      if (good)
        out.line(
          `token ${verdict.index} of batch ${verdict.batch}, profile ${verdict.profile}, for ${verdict.subject}`,
        );
      else out.line(verdict.detail);
    });
    if (verdict.code !== "accept") process.exitCode = EXIT.refused;
  });

node
  .command("policy")
  .description("show the policy bundle that this node has accepted")
  .option("--home <folder>", "home of the node", DEFAULT_HOME)
  .option("--out <folder>", "write its files into a new folder")
  .addHelpText(
    "after",
    `
The lineage is what every token names; it never changes. Bundles follow one another in it.

Example
  via node policy --out policies-2 --home .via/node`,
  )
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const held = await loadPolicy(await openHome(options.home));
    const { lineage, bundle } = held.state;
    if (options.out !== undefined && !bundle)
      throw new OperationError("ERR_NOT_FOUND", "there is no policy bundle yet; nothing was written");
    if (options.out !== undefined) await exportPolicy(held, options.out);
    const entries = bundle?.manifest.entries ?? [];
    const result = {
      lineage: formatHex(lineage),
      words: formatWords(lineage),
      ...(bundle && {
        version: bundle.manifest.version,
        root: formatHex(bundle.manifest.root),
        manifest: formatHex(bundle.hash),
      }),
      files: entries.map(({ path: name, length, hash }) => ({ path: name, length, sha256: formatHex(hash) })),
      ...(options.out !== undefined && { folder: options.out }),
    };
    out.result(result, () => {
      out.line(`lineage ${result.lineage}`);
      if (!bundle) out.line("no policy bundle yet");
      else {
        out.line(`bundle ${result.version}, root ${result.root}\n`);
        out.table(
          ["file", "bytes", "SHA-256"],
          result.files.map((file) => [file.path, file.length, file.sha256]),
        );
      }
      if (options.out !== undefined) out.line(`\nwritten: ${options.out}`);
    });
  });

node
  .command("device")
  .description("make the key of a device and print its DID")
  .requiredOption("--home <folder>", "where the device keeps its key")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const key = parsePublicKey(new Uint8Array(publicKey.export({ format: "der", type: "spki" })));
    await ensureFolder(options.home, PRIVATE_FOLDER);
    const file = path.join(options.home, "device.pem");
    await putImmutable(file, utf8(String(privateKey.export({ format: "pem", type: "pkcs8" }))), PRIVATE_FILE);
    const did = formatDidKey(key.raw);
    out.result({ did, file }, () => out.line(did));
  });

interface InitOptions {
  readonly root?: string;
  readonly rootFrom?: string;
  readonly digestFrom: readonly string[];
  readonly home: string;
  readonly development?: boolean;
  readonly hardware?: boolean;
  readonly yes?: boolean;
}

/** `CHANNEL=@FILE` stands for what the file says. */
async function readClaim(text: string): Promise<string> {
  const [, channel, file] = /^([^=]*)=@(.+)$/.exec(text) ?? [];
  if (file === undefined) return text;
  return `${channel}=${parseUtf8(await readFileBounded(file, CLAIM_BYTES_MAX)).trim()}`;
}

async function readRoot({ root, rootFrom }: InitOptions): Promise<{ rootFile: Uint8Array; source: string }> {
  if ((root === undefined) === (rootFrom === undefined))
    throw new OperationError("ERR_USAGE", "name exactly one of --root and --root-from");
  if (root !== undefined) return { rootFile: await readFileBounded(root, ROOT_BYTES_MAX), source: root };
  const source = rootFrom!;
  const rootFile = await openMirrors([source])[0]!.fetch(FIRST_ROOT, ROOT_BYTES_MAX);
  if (!rootFile) throw new OperationError("ERR_FETCH", `there is no ${FIRST_ROOT} in ${source}`);
  if (rootFile.length > ROOT_BYTES_MAX)
    throw new OperationError("ERR_FILE_TOO_LARGE", `${FIRST_ROOT} has ${rootFile.length} bytes`);
  return { rootFile, source };
}

/** Collects an option that may be given several times. */
function collectSources(source: string, list: readonly string[] = []): readonly string[] {
  return [...list, source];
}

function failureJson({ mirror, error }: MirrorFailure) {
  return { mirror, code: error.code, message: error.message };
}

function batchesOf(list: string | undefined): readonly number[] | "all" {
  if (list === undefined) return "all";
  return list === "none" ? [] : list.split(",").map((text) => parseDecimal(text));
}

function dateOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

/** What lies before the node, as bytes of some spelling of a token, or the reason why there is none. */
type Presented = { readonly token: Uint8Array } | Extract<Verdict, { readonly detail: string }>;

async function readPresented(options: { dump?: string; token?: string; reader?: boolean }): Promise<Presented> {
  const given = [options.dump, options.token, options.reader].filter((option) => option !== undefined);
  if (given.length !== 1) throw new OperationError("ERR_USAGE", "name exactly one of --dump, --token and --reader");
  if (options.token !== undefined) return { token: await readFileBounded(options.token, TOKEN_BYTES_MAX) };
  const memory = options.dump === undefined ? await readTag() : await readFileBounded(options.dump, DUMP_BYTES_MAX);
  try {
    const tag = parseTag(memory);
    if (tag.layout === "pointer") {
      return { code: "malformed", detail: "a pointer tag carries no token; claims are not served by this version" };
    }
    return { token: tag.token };
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    const code = error.code === "ERR_TOKEN_VERSION" ? "unsupported-version" : "malformed";
    return { code, detail: error.message };
  }
}

async function readTag(): Promise<Uint8Array> {
  const reader = await openReader({ socket: process.env.PCSCLITE_CSOCK_NAME ?? DEFAULT_PCSC_SOCKET });
  try {
    const tag = await reader.waitForTag(AbortSignal.timeout(TAG_SECONDS_MAX * 1000));
    return await readDump(tag);
  } finally {
    reader.close();
  }
}

async function judge(presented: Presented, state: NodeState): Promise<Verdict> {
  if ("code" in presented) return presented;
  const verdict = checkToken(presented.token, state, now());
  if (verdict.code !== "accept") return verdict;
  try {
    // A device proof will be checked against this key; a subject that cannot be resolved could never give one.
    await resolveSubject(verdict.subject);
    return verdict;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { code: error.code, detail: error.message, index: verdict.index };
  }
}

process.exitCode = await runProgram(node, process.argv);
