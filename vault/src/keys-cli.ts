/** `via vault keys`: the authority's own keys, in its HSM or in files. */
import { readSignerConfig } from "@viafabric/hsm/signer";
import { type Command, Option, type Output, outputOf } from "@viafabric/platform";
import { type Algorithm, formatBase64, formatHex, OperationError } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { type Home, homeAt } from "./home.ts";
import { classOf, type HeldKey, heldKeys, makeKey, ROTATED_KEYS, type RotatedKey, successorOf } from "./online-keys.ts";
import { ROTATED_BY_TARGETS } from "./trust-change.ts";

/** What the program lends to its groups of commands. */
export interface KeysTools<Ask> {
  readonly now: () => number;
  readonly trusted: (home: Home) => Promise<TrustedState>;
  readonly askOptions: (command: Command) => Command;
  readonly ask: (out: Output, home: Home, options: Ask, body: unknown) => Promise<void>;
}

interface Options {
  readonly home: string;
}

interface MakeFlags extends Options {
  readonly algorithm: Algorithm;
}

export function keysCommands<Ask extends Options>(vault: Command, defaultHome: string, tools: KeysTools<Ask>): void {
  const keys = vault.command("keys").description("The authority's own keys: list, make, follow.");
  keys.addHelpText(
    "after",
    `
Examples
  via vault keys list
  via vault keys rotate issuer             make a new issuer key and ask the trustees for it
  via vault keys generate status           make one now, ask later with \`rotate\`

A key that is followed is never deleted: trustees see until when it may sign.`,
  );
  const withHome = (command: Command) => command.option("--home <folder>", "the vault's home", defaultHome);
  const algorithm = () =>
    new Option("--algorithm <name>", "p256 for a module without Ed25519")
      .choices(["ed25519", "p256"])
      .default("ed25519");

  withHome(keys.command("list").description("Every key the signer holds, and what trustees say of it.")).action(
    async (options: Options, command: Command) => {
      const home = homeAt(options.home);
      const config = await readSignerConfig(home.signerConfig);
      const held = heldKeys(config, await tools.trusted(home));
      outputOf(command).result(
        { class: classOf(config.hsm), keys: held.map((key) => keyJson(key, tools.now())) },
        () => {
          const rows = held.map((key) => [
            key.role,
            standingOf(key, tools.now()),
            key.publicKey.algorithm,
            formatHex(key.publicKey.kid),
          ]);
          outputOf(command).table(["key", "standing", "kind", "key id"], rows);
        },
      );
    },
  );

  withHome(keys.command("generate <role>").description("Make a key. Nobody trusts it until `rotate` and the trustees."))
    .addOption(algorithm())
    .action(async (role: string, options: MakeFlags, command: Command) => {
      const made = await makeKey(homeAt(options.home), rotatedKey(role), options.algorithm);
      outputOf(command).result(
        { role, kid: formatHex(made.publicKey.kid), spki: formatBase64(made.publicKey.spki) },
        () => {
          outputOf(command).line(`Made: ${role} key ${formatHex(made.publicKey.kid)}`);
          outputOf(command).line(`Now:  via vault keys rotate ${role} --home ${options.home}`);
        },
      );
    });

  tools
    .askOptions(
      keys.command("rotate <role>").description("Make a key, or take the one that waits, and ask the trustees."),
    )
    .addOption(algorithm())
    .action(async (role: string, options: Ask & MakeFlags, command: Command) => {
      const home = homeAt(options.home);
      const purpose = rotatedKey(role);
      const { publicKey } = await successorOf(home, purpose, options.algorithm, await tools.trusted(home));
      const { hsm } = await readSignerConfig(home.signerConfig);
      const spki = formatBase64(publicKey.spki);
      const listed = ROTATED_BY_TARGETS.find((known) => known === purpose);
      if (listed) {
        const rotate = [{ purpose: listed, spki, class: classOf(hsm) }];
        await tools.ask(outputOf(command), home, options, { add: [], remove: [], rotate });
      } else {
        outputOf(command).result({ role, kid: formatHex(publicKey.kid), spki }, () => {
          outputOf(command).line(
            `The ${role} key ${formatHex(publicKey.kid)} takes over with a root that names it:\n\n  ${spki}`,
          );
        });
      }
    });
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
