/** `via vault keys`: the authority's own keys, in its HSM or in files. */
import path from "node:path";
import { readSignerConfig } from "@viafabric/hsm/signer";
import { type Command, Option, type Output, outputOf, readPassphrase } from "@viafabric/platform";
import {
  type Algorithm,
  formatBase64,
  formatHex,
  formatWords,
  KEY_CLASSES,
  type KeyClass,
  OperationError,
  type Transcript,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { type Home, homeAt } from "./home.ts";
import {
  type Ceremony,
  checkKeys,
  type HeldKey,
  heldKeys,
  makeKey,
  ROTATED_KEYS,
  type RotatedKey,
  successorOf,
} from "./online-keys.ts";
import type { RequestPath } from "./operate.ts";
import { ROTATED_BY_TARGETS } from "./trust-change.ts";

/** What the program lends to its groups of commands. */
export interface AskTools<Ask> {
  readonly now: () => number;
  readonly trusted: (home: Home) => Promise<TrustedState>;
  readonly askOptions: (command: Command) => Command;
  readonly ask: (out: Output, home: Home, options: Ask, path: RequestPath, body: unknown) => Promise<void>;
}

interface Options {
  readonly home: string;
}

interface TokenFlags {
  readonly class?: KeyClass;
  readonly pinFile?: string;
  readonly askPin?: boolean;
}

interface MakeFlags extends Options, TokenFlags {
  readonly algorithm: Algorithm;
}

export function keysCommands<Ask extends Options>(vault: Command, defaultHome: string, tools: AskTools<Ask>): void {
  const keys = vault.command("keys").description("The authority's own keys: list, check, make, follow.");
  keys.addHelpText(
    "after",
    `
Examples
  via vault keys list
  via vault keys check                     ask the token for each key, its attributes and a signature
  via vault keys rotate issuer             make a new issuer key and ask the trustees for it
  via vault keys generate status           make one now, ask later with \`rotate\`
  via vault keys check --ask-pin           with the PIN typed, where no file holds it

A key that is followed is never deleted: trustees see until when it may sign. Every key that is made has a transcript in
private/transcripts/, whose hash goes into the log.`,
  );
  const withHome = (command: Command) => command.option("--home <folder>", "the vault's home", defaultHome);
  const ceremonyAt = async (home: Home, options: TokenFlags): Promise<Ceremony> => {
    const { authority } = await tools.trusted(home);
    return {
      authority,
      now: tools.now(),
      ...(options.class && { keyClass: options.class }),
      ...(options.pinFile !== undefined && { pinFile: path.resolve(options.pinFile) }),
      ...(options.askPin && { pin: await readPassphrase(undefined, "PIN of the token: ", "--pin-file") }),
    };
  };

  withHome(keys.command("list").description("Every key the signer holds, and what trustees say of it.")).action(
    async (options: Options, command: Command) => {
      const home = homeAt(options.home);
      const out = outputOf(command);
      const held = heldKeys(await readSignerConfig(home.signerConfig), await tools.trusted(home));
      out.result({ keys: held.map((key) => keyJson(key, tools.now())) }, () => {
        const row = (key: HeldKey) => [
          standingOf(key, tools.now()),
          key.publicKey.algorithm,
          formatHex(key.publicKey.kid),
        ];
        out.table(
          ["key", "standing", "kind", "key id"],
          held.map((key) => [key.role, ...row(key)]),
        );
      });
    },
  );

  withHome(keys.command("check").description("Ask the token for each key: attributes, public half, a signature."))
    .option("--record", "keep the transcript, to be logged")
    .addOption(classOption())
    .option(...PIN_FILE)
    .option(...ASK_PIN)
    .action(async (options: Options & TokenFlags & { readonly record?: boolean }, command: Command) => {
      const home = homeAt(options.home);
      const ceremony = await ceremonyAt(home, options);
      showTranscript(outputOf(command), home, await checkKeys(home, ceremony, options.record ?? false), options.record);
    });

  withHome(keys.command("generate <role>").description("Make a key. Nobody trusts it until `rotate` and the trustees."))
    .addOption(algorithmOption())
    .addOption(classOption())
    .option(...PIN_FILE)
    .option(...ASK_PIN)
    .action(async (role: string, options: MakeFlags, command: Command) => {
      const home = homeAt(options.home);
      const out = outputOf(command);
      const ceremony = await ceremonyAt(home, options);
      showTranscript(out, home, await makeKey(home, rotatedKey(role), options.algorithm, ceremony), true);
      out.line(`\nNow:  via vault keys rotate ${role} --home ${options.home}`);
    });

  tools
    .askOptions(
      keys.command("rotate <role>").description("Make a key, or take the one that waits, and ask the trustees."),
    )
    .addOption(algorithmOption())
    .addOption(classOption())
    .option(...PIN_FILE)
    .option(...ASK_PIN)
    .action(async (role: string, options: Ask & MakeFlags, command: Command) => {
      const home = homeAt(options.home);
      const out = outputOf(command);
      const purpose = rotatedKey(role);
      const ceremony = await ceremonyAt(home, options);
      const successor = await successorOf(home, purpose, options.algorithm, await tools.trusted(home), ceremony);
      const spki = formatBase64(successor.key.spki);
      const listed = ROTATED_BY_TARGETS.find((known) => known === purpose);
      if (listed) {
        const rotate = [{ purpose: listed, spki, class: successor.class }];
        await tools.ask(out, home, options, "trust-requests", { add: [], remove: [], rotate });
      } else {
        // Named by root, not by the key list.
        await tools.ask(out, home, options, "rotation-requests", { add: [], remove: [], [purpose]: spki });
      }
    });
}

function showTranscript(out: Output, { transcripts }: Home, transcript: Transcript, kept = false): void {
  const { number, keys, device } = transcript;
  const file = path.join(transcripts, `${number}.md`);
  const result = {
    class: transcript.class,
    device,
    keys: keys.map(({ role, id, key, attributes }) => ({
      role,
      id: formatHex(id),
      kid: formatHex(key.kid),
      words: formatWords(key.kid),
      spki: formatBase64(key.spki),
      attributes: Object.fromEntries(attributes),
    })),
    ...(kept && { transcript: file }),
  };
  out.result(result, () => {
    const token =
      device.tokenSerial === "" ? device.moduleDescription : `${device.tokenModel}, serial ${device.tokenSerial}`;
    out.line(`${keys.length} of ${keys.length} keys are as they must be. ${token}: ${transcript.class}`);
    for (const { role, key } of keys) out.line(`\n  ${role}: ${formatHex(key.kid)}\n  ${formatWords(key.kid)}`);
    if (kept) out.line(`\nTranscript: ${file}`);
  });
}

const ASK_PIN = ["--ask-pin", "ask for the token's PIN instead of reading a file"] as const;
const PIN_FILE = ["--pin-file <file>", "the token's PIN, when the signer's own file cannot be read here"] as const;

export function classOption(): Option {
  const option = new Option("--class <name>", "what the token is called; told by the token when left out");
  return option.choices([...KEY_CLASSES]);
}

export function algorithmOption(): Option {
  const option = new Option("--algorithm <name>", "p256 for a module without Ed25519; notes are Ed25519 always");
  return option.choices(["ed25519", "p256"]).default("ed25519");
}

function keyJson(key: HeldKey, now: number): object {
  const { role, id, publicKey, listed } = key;
  return {
    role,
    id: formatHex(id),
    kid: formatHex(publicKey.kid),
    algorithm: publicKey.algorithm,
    spki: formatBase64(publicKey.spki),
    standing: standingOf(key, now),
    ...listed,
  };
}

function standingOf({ listed }: HeldKey, now: number): string {
  if (!listed) return "held, not listed";
  if (now < listed.from) return `listed from ${dayOf(listed.from)}`;
  return now < listed.until ? `listed until ${dayOf(listed.until)}` : `ended ${dayOf(listed.until)}`;
}

function dayOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

function rotatedKey(name: string): RotatedKey {
  const role = ROTATED_KEYS.find((known) => known === name);
  if (role) return role;
  const reason = name === "log" ? "a log keeps its key for ever" : `one of ${ROTATED_KEYS.join(", ")}`;
  throw new OperationError("ERR_USAGE", `${name}: ${reason}`);
}
