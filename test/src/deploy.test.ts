/** The unit files: what they promise is in them, and systemd itself reads them where it is installed. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SIGNER_HEAP } from "@viafabric/hsm/signer";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = path.join(ROOT, "deploy");
const UNITS = readdirSync(FOLDER).filter((name) => name.endsWith(".service"));

/** Directives of a unit, every value of each, in order. */
function directivesOf(name: string): ReadonlyMap<string, readonly string[]> {
  const directives = new Map<string, string[]>();
  for (const line of readFileSync(path.join(FOLDER, name), "utf8").split("\n")) {
    if (line === "" || line.startsWith("#") || /^\[[A-Za-z]+\]$/.test(line)) continue;
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? assert.fail(`${name}: ${line}`);
    directives.set(key!, [...(directives.get(key!) ?? []), value!]);
  }
  return directives;
}

test("every unit has a user of its own, no privileges, and programs that exist", () => {
  assert.deepEqual(UNITS.sort(), ["via-signer.service", "via-vault.service"]);
  const users = new Set<string>();
  for (const name of UNITS) {
    const unit = directivesOf(name);
    const one = (key: string) => unit.get(key)?.join(" ");
    users.add(one("User")!);
    assert.notEqual(one("User"), "root");
    for (const [key, value] of [
      ["NoNewPrivileges", "yes"],
      ["CapabilityBoundingSet", ""],
      ["ProtectSystem", "strict"],
      ["ProtectHome", "yes"],
      ["PrivateDevices", "yes"],
      ["LimitCORE", "0"],
    ] as const)
      assert.equal(one(key), value, `${name}: ${key}`);
    const main = one("ExecStart")!
      .split(" ")
      .find((word) => word.endsWith(".js"));
    assert.ok(existsSync(main!.replace("/opt/via", ROOT)), `${name} starts ${main}, which is not there`);
  }
  assert.equal(users.size, UNITS.length, "no user runs two of them");
});

test("the signer has no network, and its PIN comes as a credential file", () => {
  const unit = directivesOf("via-signer.service");
  assert.deepEqual(unit.get("PrivateNetwork"), ["yes"]);
  assert.deepEqual(unit.get("RestrictAddressFamilies"), ["AF_UNIX"]);
  assert.deepEqual(unit.get("IPAddressDeny"), ["any"]);
  assert.match(unit.get("LoadCredential")!.join(), /^hsm-pin:\/etc\/via\/hsm-pin$/);
  for (const values of unit.values()) for (const value of values) assert.doesNotMatch(value, /pin=|PIN=/);
  assert.deepEqual(directivesOf("via-vault.service").get("SupplementaryGroups"), unit.get("Group"));
});

test("the signer's heap is as small under systemd as when the vault starts it", () => {
  const [, ...words] = directivesOf("via-signer.service").get("ExecStart")!.join().split(" ");
  assert.deepEqual(
    words.filter((word) => word.startsWith("--")),
    SIGNER_HEAP,
  );
});

test("systemd reads the units", { timeout: 60_000 }, async (t) => {
  if (!existsSync("/usr/bin/systemd-analyze")) {
    t.diagnostic("systemd-analyze is not installed here: the units were read by the tests above alone");
    return;
  }
  for (const name of UNITS) {
    const { stderr } = await promisify(execFile)("systemd-analyze", ["verify", "--man=no", path.join(FOLDER, name)], {
      env: { SYSTEMD_UNIT_PATH: `${FOLDER}:` },
    }).catch((error: { stderr: string }) => error);
    // Programs in /opt and units of the system need not be on the machine that runs the tests.
    const told = stderr.split("\n").filter((line) => line.includes(name) && !/is not executable|not found/.test(line));
    assert.deepEqual(told, [], name);
  }
});
