/** `via vault policy` and `via vault profile`: what trustees sign besides keys. */
import { type Command, outputOf, readFileBounded } from "@viafabric/platform";
import {
  encodePolicyManifest,
  formatBase64,
  formatHex,
  OperationError,
  PROFILE_BYTES_MAX,
  parseDecimal,
  policyManifestOf,
  readProfile,
} from "@viafabric/schemas";
import { POLICY_MANIFEST_PATH } from "@viafabric/tuf";
import { NO_CONTENT, nextFiles } from "./content-change.ts";
import { homeAt } from "./home.ts";
import type { AskTools } from "./keys-cli.ts";
import { readPolicyFolder } from "./policy-folder.ts";

interface Options {
  readonly home: string;
}

interface ProfileFlags extends Options {
  readonly softHours: string;
  readonly hardHours: string;
}

export function contentCommands<Ask extends Options>(vault: Command, tools: AskTools<Ask>): void {
  const policy = vault.command("policy").description("The policy bundle: any files, under one lineage.");
  policy.addHelpText(
    "after",
    `
Examples
  via vault policy add policies/           ask the trustees to put these files into force

The folder is the whole bundle: what is not in it goes. No token has to be written again.`,
  );
  tools
    .askOptions(policy.command("add <folder>").description("Ask the trustees for the next version of the bundle."))
    .action(async (folder: string, options: Ask, command: Command) => {
      const home = homeAt(options.home);
      const policyFiles = await readPolicyFolder(folder);
      const trusted = await tools.trusted(home);
      // Refused here rather than by the vault: the same rules, before anything is sent.
      nextFiles({ ...NO_CONTENT, policy: policyFiles }, trusted);
      if (trusted.policy) {
        const held = trusted.policy.bundle && trusted.files.get(POLICY_MANIFEST_PATH);
        const manifest = policyManifestOf(trusted.authority, trusted.policy.lineage, held, policyFiles);
        const size = [...policyFiles.values()].reduce((sum, { length }) => sum + length, 0);
        outputOf(command).note(
          `bundle ${manifest.version}: ${policyFiles.size} files, ${size} bytes, root ${formatHex(manifest.root)}, manifest of ${encodePolicyManifest(manifest).length} bytes`,
        );
      }
      const body = Object.fromEntries([...policyFiles].map(([path, bytes]) => [path, formatBase64(bytes)]));
      await tools.ask(outputOf(command), home, options, "trust-requests", { add: [], remove: [], policy: body });
    });

  const profile = vault.command("profile").description("The catalogue of capability profiles.");
  profile.addHelpText(
    "after",
    `
Examples
  via vault profile add gpu.json --soft-hours 12 --hard-hours 72

gpu.json: {"capability_profile_id": "geo-gpu", "version": 1, "title": "Maps on a GPU", "quotas": {"gpu_minutes": 600}}
A profile that exists changes with a higher version. \`GET /capabilities\` shows what is in force.`,
  );
  tools
    .askOptions(profile.command("add <file>").description("Ask the trustees for a new or changed profile."))
    .option("--soft-hours <n>", "age of the status at which a node grows cautious", "24")
    .option("--hard-hours <n>", "age of the status at which a node refuses", "168")
    .action(async (file: string, options: Ask & ProfileFlags, command: Command) => {
      const home = homeAt(options.home);
      const bytes = await readFileBounded(file, PROFILE_BYTES_MAX);
      const [soft, hard] = [hours("--soft-hours", options.softHours), hours("--hard-hours", options.hardHours)];
      const change = { profile: readProfile(bytes), soft, hard };
      nextFiles({ ...NO_CONTENT, profiles: [change] }, await tools.trusted(home));
      const profiles = [{ file: formatBase64(bytes), soft, hard }];
      await tools.ask(outputOf(command), home, options, "trust-requests", { add: [], remove: [], profiles });
    });
}

function hours(name: string, text: string): number {
  try {
    return parseDecimal(text) * 3600;
  } catch (cause) {
    throw new OperationError("ERR_USAGE", `${name} takes a whole number`, { cause });
  }
}
