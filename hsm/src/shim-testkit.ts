/**
 * A bad device for tests and benches: `fixtures/shim.c` compiled in front of a real module, and its control file.
 */
import { execFile } from "node:child_process";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** As `struct control` in shim.c, field by field. */
const FIELDS = [
  "delayMicroseconds",
  "serialise",
  "when",
  "n",
  "seed",
  "sticky",
  "sessionsMax",
  "loginCode",
  "codeCount",
] as const;
const CODES_MAX = 16;
const COUNTERS = ["calls", "faults", "initialisations", "logins", "sessions"] as const;
const WORDS = FIELDS.length + CODES_MAX + COUNTERS.length;
const WHEN = { never: 0, once: 1, each: 2, share: 3 } as const;

/** Instead of a CKR code: the call succeeds, and its signature has one wrong bit. */
export const CORRUPT = 0xffffffff;

export interface Faults {
  readonly delayMicroseconds?: number;
  /** One signature at a time, as in a device with one processor. */
  readonly serialise?: boolean;
  /** Which of the calls from now on fail; `share` is n of a million, chosen by `seed`. */
  readonly when?: keyof typeof WHEN;
  readonly n?: number;
  readonly seed?: number;
  /** Whether a device that reports itself gone stays so until the module is finalised. */
  readonly sticky?: boolean;
  /** How many sessions the token says it has, and opens at once. */
  readonly sessionsMax?: number;
  /** The CKR code that answers each login; without one the real module does. */
  readonly loginCode?: number;
  /** They take turns. At most 16. */
  readonly codes?: readonly number[];
}

export interface Shim {
  readonly module: string;
  /** Counts from zero again. Only between calls. */
  set(faults: Faults): void;
  counters(): Readonly<Record<(typeof COUNTERS)[number], number>>;
  close(): void;
}

/** @param folder where to compile. @throws when there is no C compiler */
export async function buildShim(folder: string, module: string): Promise<Shim> {
  const control = path.join(folder, "control");
  await writeFile(control, new Uint8Array(WORDS * 4));
  const library = path.join(folder, "shim.so");
  await compile(fileURLToPath(new URL("../fixtures/shim.c", import.meta.url)), library, [
    "-shared",
    "-fPIC",
    `-DMODULE=${JSON.stringify(module)}`,
    `-DCONTROL=${JSON.stringify(control)}`,
  ]);
  const file = openSync(control, "r+");
  return {
    module: library,
    set(faults) {
      const {
        delayMicroseconds = 0,
        serialise = false,
        n = 0,
        seed = 0,
        sticky = false,
        sessionsMax = 0,
        loginCode = 0,
        codes = [],
      } = faults;
      if (codes.length > CODES_MAX) throw new RangeError(`${codes.length} codes`);
      const words = new Uint32Array(WORDS);
      const when = WHEN[faults.when ?? "never"];
      words.set([
        delayMicroseconds,
        Number(serialise),
        when,
        n,
        seed,
        Number(sticky),
        sessionsMax,
        loginCode,
        codes.length,
        ...codes,
      ]);
      writeSync(file, words, 0, words.byteLength, 0);
    },
    counters() {
      const words = new Uint32Array(COUNTERS.length);
      readSync(file, words, 0, words.byteLength, (WORDS - COUNTERS.length) * 4);
      return Object.fromEntries(COUNTERS.map((name, i) => [name, words[i]!])) as ReturnType<Shim["counters"]>;
    },
    close: () => closeSync(file),
  };
}

/** Compiles C against the PKCS#11 headers that the binding brings along. */
export async function compile(source: string, output: string, flags: readonly string[]): Promise<void> {
  const headers = path.join(path.dirname(fileURLToPath(import.meta.resolve("pkcs11js"))), "includes");
  const libraries = ["-ldl", "-lpthread"];
  await promisify(execFile)("cc", ["-O2", `-I${headers}`, ...flags, "-o", output, source, ...libraries]);
}
