/** docs/errors.md, made from the tables that the programs use: `npm run docs` writes it, a test compares it. */
import { FORMAT_CODES, OPERATION_CODES, VERIFICATION_CODES } from "@viafabric/schemas";
import { REFUSALS } from "@viafabric/verifier";

export function errorsDocument(): string {
  return `# Codes

Every refusal has a code from a closed list. Programs switch on the code; the message beside it is for people and may
change. This page is generated from the tables in \`schemas/src/errors.ts\` and \`verifier/src/verdict.ts\`
(\`npm run docs\`), and a test fails when they differ.

## Exit codes of every command

| code | meaning |
|---|---|
| 0 | done; for a check: \`accept\` |
| 1 | the answer is no: a verdict other than \`accept\`, a refused proposal, bytes that do not verify |
| 2 | the command line is wrong; run it with \`--help\` |
| 3 | something must be installed or plugged in first; the message says what |
| 4 | the world failed on the way; trying again may work |
| 141 | whoever read the output went away before its end, as in \`via … | head\`; what was begun was done |

## Verdicts of a node

The checks run in the order of this table and the first failure wins. \`accept\` is the only yes; with \`aging\` the
status is past its soft age and should be refreshed.

${table(REFUSALS)}

## The bytes are not what the format says

Thrown by \`parse…\` and \`decode…\`.

${table(FORMAT_CODES)}

## Well formed, but it does not earn trust

Thrown by \`verify…\`.

${table(VERIFICATION_CODES)}

## The world failed

Thrown by shells: HSM, disk, reader, database, network.

${table(OPERATION_CODES)}
`;
}

function table(codes: Readonly<Record<string, string>>): string {
  const rows = Object.entries(codes).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);
  return ["| code | meaning, and what to do |", "|---|---|", ...rows].join("\n");
}
