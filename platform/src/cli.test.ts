import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const LENGTH = 1_000_000;
const programOf = (work: string, end: string) => `
  import { outputOf, program, runProgram } from ${JSON.stringify(new URL("./index.js", import.meta.url).href)};
  const command = program("via test", "A test.");
  command.command("say").action(async (_options, self) => { const out = outputOf(self); ${work} });
  ${end.replace("CODE", 'await runProgram(command, ["", "", "say", "--json"])')};
`;
const SAY = `out.result({ text: "x".repeat(${LENGTH}) }, () => {});`;

test("a long answer is whole, also where the process is ended at once and the reader is slow", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", programOf(SAY, "process.exit(CODE)")]);
  await sleep(500);
  let output = "";
  for await (const part of child.stdout) output += part;
  assert.equal((JSON.parse(output) as { text: string }).text.length, LENGTH);
});

for (const end of ["process.exit(CODE)", "process.exitCode = CODE"])
  test(`a reader that goes away ends a command quietly, once its work is done (${end})`, async () => {
    const work = `out.note("begun"); ${SAY} await 0; ${SAY} out.note("done");`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", programOf(work, end)]);
    child.stdout.once("data", () => child.stdout.destroy());
    let said = "";
    child.stderr.on("data", (part) => {
      said += part;
    });
    const [code] = await once(child, "close");
    assert.deepEqual([code, said], [141, "begun\ndone\n"]);
  });

test("a full disk is not taken for a reader that went away", async () => {
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, ["--input-type=module", "--eval", programOf(SAY, "process.exit(CODE)")], {
    stdio: ["ignore", full, "pipe"],
  });
  let said = "";
  child.stderr!.on("data", (part) => {
    said += part;
  });
  const [code] = await once(child, "close");
  closeSync(full);
  assert.ok(code !== 0 && code !== 141, String(code));
  assert.match(said, /ENOSPC/);
});
