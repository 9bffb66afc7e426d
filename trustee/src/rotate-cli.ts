/** `via trustee join` and `rotate`: becoming a trustee of an authority that exists, and changing who is one. */
import { type Command, type Output, outputOf, readFileBounded, repeated } from "@viafabric/platform";
import { formatHex, formatWords, OperationError, parseDecimal, sha256 } from "@viafabric/schemas";
import { openMirrors } from "@viafabric/transparency-log/client";
import { CARD_BYTES_MAX, METADATA_BYTES_MAX, parseClaim, verifyClaims } from "@viafabric/tuf";
import {
  agreed,
  declined,
  homeCommand,
  type Options,
  parseId,
  secretOf,
  sessionOf,
  signing,
  vaultCommand,
} from "./command-line.ts";
import { homeAt, readOwnKey } from "./home.ts";
import { join, type Pinned, readPin, requestRotation } from "./rotate.ts";
import { showWords } from "./show.ts";

interface JoinOptions extends Options {
  readonly root?: string;
  readonly rootFrom?: string;
  readonly digestFrom?: readonly string[];
}

interface RotateOptions extends Options {
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
  readonly newCard?: string;
  readonly threshold?: string;
  readonly seconds: string;
}

const FIRST_ROOT = "root/1.root.json";
const WAIT_SECONDS = "60";
export function addRotateCommands(trustee: Command): void {
  homeCommand(trustee, "join", "Pin an authority that exists, to become one of its trustees.")
    .option("--root <file>", "root 1 of the authority, from a hand you trust; else add --digest-from")
    .option("--root-from <source>", "take root 1 from published files (address or folder); needs --digest-from")
    .option(
      "--digest-from <channel=authority>",
      "the authority, in hex or 24 words, as a channel named it; two different channels must agree",
      repeated,
    )
    .option("--yes", "the words were compared already")
    .addHelpText(
      "after",
      `
Run \`via trustee init\` first and hand over the card. Nothing is signed here.

Examples
  via trustee join --root 1.root.json --home .via/trustees/6
  via trustee join --root-from https://mirror.example/public --digest-from paper=4f0c… --digest-from dns=4f0c…`,
    )
    .action(async (options: JoinOptions, command: Command) => {
      const out = outputOf(command);
      const home = homeAt(options.home);
      const claims = (options.digestFrom ?? []).map(parseClaim);
      const rootFile = await readRoot(options);
      const pinned = readPin(rootFile);
      const isClaimed = claims.length > 0 || options.rootFrom !== undefined;
      if (isClaimed) verifyClaims(pinned.authority, sha256(rootFile), claims);
      if (!out.json) showPinned(out, pinned);
      if (!(await agreed(options, "Are these the words you were told by the trustees?"))) return declined(out, options);
      await join(home, pinned);
      const { kid } = await readOwnKey(home);
      const result = {
        authority: formatHex(pinned.authority),
        words: formatWords(pinned.authority),
        kid: formatHex(kid),
      };
      out.result(result, () => {
        out.line("Pinned. A rotation that lets you in needs your signature too: via trustee status shows it.");
      });
    });

  signing(vaultCommand(trustee, "rotate", "Ask for trustees to join or leave, or for your own key to change."))
    .option("--add <card>", "enrolment card of a trustee who joins; once for each", repeated)
    .option("--remove <kid>", "key id of a trustee who leaves; once for each", repeated)
    .option("--new-card <card>", "the card of your next key; your present one leaves")
    .option("--threshold <k>", "how many must sign from then on; never fewer than now")
    .option("--seconds <n>", "how long to wait for the proposal", WAIT_SECONDS)
    .addHelpText(
      "after",
      `
The vault draws up root, targets and batches as one proposal. The quorum of the old trustees and the quorum of the new
ones sign it; those who join have run \`join\`. At most one trustee fewer than must sign may join at once.

Examples
  via trustee rotate --new-card new/card.json --home .via/trustees/1
  via trustee rotate --remove 3f0a… --add .via/trustees/6/card.json --home .via/trustees/1`,
    )
    .action(async (options: RotateOptions, command: Command) => {
      const out = outputOf(command);
      const card = (file: string) => readFileBounded(file, CARD_BYTES_MAX);
      const wish = {
        add: await Promise.all((options.add ?? []).map(card)),
        remove: (options.remove ?? []).map(parseId),
        ...(options.newCard !== undefined && { newCard: await card(options.newCard) }),
        ...(options.threshold !== undefined && { threshold: whole("--threshold", options.threshold) }),
      };
      const id = await requestRotation(
        sessionOf(options),
        wish,
        secretOf(options),
        whole("--seconds", options.seconds),
      );
      out.result({ event: formatHex(id), words: formatWords(id) }, () => {
        out.line("Proposed to the old and the new trustees:");
        out.line();
        showWords(out, formatWords(id));
        out.line(`  ${formatHex(id)}`);
        out.line();
        out.line(`Each of them:  via trustee sign ${formatHex(id)} --vault ${options.vault}`);
      });
    });
}

function showPinned(out: Output, { authority, root }: Pinned): void {
  out.line("You are about to pin this authority. Compare these words with what the trustees tell you:");
  out.line();
  showWords(out, formatWords(authority));
  out.line();
  out.line(`Founded by ${root.roles.root.keys.length} trustees, of whom ${root.roles.root.threshold} decide.`);
}

async function readRoot({ root, rootFrom }: JoinOptions): Promise<Uint8Array> {
  if ((root === undefined) === (rootFrom === undefined))
    throw new OperationError("ERR_USAGE", "name one of --root FILE and --root-from SOURCE");
  if (root !== undefined) return readFileBounded(root, METADATA_BYTES_MAX.root);
  const file = await openMirrors([rootFrom!])[0]!.fetch(FIRST_ROOT, METADATA_BYTES_MAX.root);
  if (!file) throw new OperationError("ERR_FETCH", `there is no ${FIRST_ROOT} at ${rootFrom}`);
  return file;
}

function whole(name: string, text: string): number {
  try {
    return parseDecimal(text);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", `${name} takes a whole number`, { cause });
  }
}
