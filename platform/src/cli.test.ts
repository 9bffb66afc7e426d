import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const LENGTH = 1_000_000;
const PROGRAM = `
  import { outputOf, program, runProgram } from ${JSON.stringify(new URL("./index.js", import.meta.url).href)};
  const command = program("via test", "A test.");
  command.command("say").action((_options, self) => outputOf(self).result({ text: "x".repeat(${LENGTH}) }, () => {}));
  process.exit(await runProgram(command, ["", "", "say", "--json"]));
`;

test("a long answer is whole, also where the process is ended at once and the reader is slow", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", PROGRAM]);
  await sleep(500);
  let output = "";
  for await (const part of child.stdout) output += part;
  assert.equal((JSON.parse(output) as { text: string }).text.length, LENGTH);
});
