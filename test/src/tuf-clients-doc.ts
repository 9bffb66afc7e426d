/** docs/tuf-clients.md, made from the index of the golden repositories, to which tests hold all four clients. */
import { readFileSync } from "node:fs";
import { goldenIndex } from "./tuf-clients/play.ts";
import type { IndexedRepository, IndexedStep } from "./tuf-golden/index.ts";
import { CLIENTS, type Client } from "./tuf-golden/repository.ts";

export function tufClientsDocument(): string {
  const { repositories } = goldenIndex();
  return `# What TUF clients say to our metadata

Anybody can follow an authority with a TUF client of their own: metadata is plain TUF 1.0, and the quorum of trustees is
a TUF threshold. Four clients were shown the same golden repositories (\`test/vectors/tuf\`, made from fixed seeds):

${CLIENTS.map((client) => `- ${CLIENT_NOTES[client]}`).join("\n")}

The page is generated from the index of those repositories (\`node test/dist/docs-main.js\`). Each cell is a test: a client
is run against each step with the store that it has kept, a refusal counts only for the reason below, and an acceptance
only with the bytes that were published. Ours and tuf-js run in \`npm test\`, python-tuf and go-tuf in \`npm run test:long\`.

## Verdicts

| repository | what the server shows | ${CLIENTS.map((client) => `${client} ${version(client)}`.trim()).join(" | ")} |
|---|---|${CLIENTS.map(() => "---").join("|")}|
${repositories.flatMap(rows).join("\n")}

What our client accepts, every other client accepts, unless it lost its own store. The other way round does not hold,
and must not: metadata on which two honest clients disagree is refused by ours, and our builders do not make it.

## Where clients differ, and why

${repositories
  .filter(({ why }) => why)
  .map(difference)
  .join("\n\n")}

## Where they agree, and how each says it

${repositories
  .filter(({ why, steps }) => !why && steps.some((step) => reasons(step).length > 0))
  .map(agreement)
  .join("\n\n")}
`;
}

const CLIENT_NOTES: Readonly<Record<Client, string>> = {
  viafabric: "**viafabric**: `refreshTrust` in `tuf/src/client.ts`, reading a folder; the time is given.",
  "tuf-js": `**tuf-js** ${version("tuf-js")} as it comes, over HTTP. Ours has it inside and adds a stricter verifier.`,
  "python-tuf": `**python-tuf** ${version("python-tuf")} as it comes, over HTTP (\`test/peers/python/tuf_client.py\`).`,
  "go-tuf": `**go-tuf** ${version("go-tuf")} as it comes, over HTTP (\`test/peers/go-tuf\`).`,
};

/** As locked: what the lock files name is what ran. Ours is this repository. */
function version(client: Client): string {
  const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
  const find = (file: string, pattern: RegExp) => pattern.exec(read(file))![1]!;
  switch (client) {
    case "viafabric":
      return "";
    case "tuf-js":
      return find("test/package.json", /"tuf-js": "([^"]+)"/);
    case "python-tuf":
      return find("test/peers/python/requirements-tuf.txt", /^tuf==(\S+)/m);
    case "go-tuf":
      return find("test/peers/go-tuf/go.mod", /go-tuf\/v2 v(\S+)/);
  }
}

function rows({ name, steps }: IndexedRepository): readonly string[] {
  return steps.map((step, i) => {
    const cells = CLIENTS.map((client) => {
      const { verdict, because } = step.verdicts[client];
      if (verdict === "accept") return "accept";
      return client === "viafabric" ? `refuse \`${because}\`` : "refuse";
    });
    return `| ${i === 0 ? `\`${name}\`` : ""} | ${step.what} | ${cells.join(" | ")} |`;
  });
}

function difference(repository: IndexedRepository): string {
  return `### ${repository.name}\n\n${repository.what} ${repository.why}\n\n${messages(repository)}`;
}

function agreement(repository: IndexedRepository): string {
  return `### ${repository.name}\n\n${repository.what}\n\n${messages(repository)}`;
}

function messages({ steps }: IndexedRepository): string {
  return steps
    .filter((step) => reasons(step).length > 0)
    .map((step) => `- ${step.what}: ${reasons(step).join("; ")}`)
    .join("\n");
}

function reasons({ verdicts }: IndexedStep): readonly string[] {
  return CLIENTS.filter((client) => verdicts[client].verdict === "refuse").map(
    (client) => `${client} \`${verdicts[client].because}\``,
  );
}
