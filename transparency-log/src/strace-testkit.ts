/**
 * What strace saw of a process: its file-system calls below a folder, in the words of `fixtures/bad-disk.c`.
 *
 * Where CI is true a missing strace is a failure; it is installed where that is allowed,
 * and what needs it is left out elsewhere, which the test says.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Prefix of a command, so that its calls, and those of all its threads, go to `file`. */
export function straced(file: string): readonly string[] {
  return ["strace", "-f", "-y", "-qq", "-s", "0", "-e", "signal=none", "-e", "trace=%file,%desc", "-o", file];
}

/** @returns whether there is one. @throws where CI is true and there is none */
export async function hasStrace(): Promise<boolean> {
  const works = () => run("strace", ["-o", "/dev/null", "true"]);
  try {
    await works().catch(async () => {
      await run("apt-get", ["-qq", "install", "--yes", "--no-install-recommends", "strace"]);
      await works();
    });
    return true;
  } catch (cause) {
    if (process.env.CI === "true") throw new Error("strace is missing, and cannot be installed", { cause });
    return false;
  }
}

const NAMES: Readonly<Record<string, string>> = {
  fsync: "sync",
  fdatasync: "sync",
  fchmod: "chmod",
  ftruncate: "truncate",
  pread64: "read",
  readv: "read",
  pwrite64: "write",
  writev: "write",
  statx: "stat",
  newfstatat: "stat",
};

/** In order; a call of a kind that the bad disk does not know has the kernel's name. */
export async function readStrace(file: string, folder: string): Promise<readonly string[]> {
  const calls: string[] = [];
  // Reading a folder takes several calls, of which the C library makes one.
  const listing = new Set<string>();
  for (const line of (await readFile(file, "utf8")).split("\n")) {
    const match = /^\d+ +(\w+)\((.*)$/.exec(line);
    if (!match) continue;
    const [, name, rest] = match as unknown as [string, string, string];
    const paths = [...argumentsOf(rest).matchAll(/"([^"]*)"|<([^>]*)>/g)]
      .map(([, quoted, descriptor]) => quoted ?? descriptor!)
      .filter((found) => found.startsWith(`${folder}/`));
    if (paths.length === 0) continue;
    if (listing.has(paths[0]!)) {
      if (name === "close") listing.delete(paths[0]!);
    } else if (name === "openat" && /O_NONBLOCK.*O_DIRECTORY/.test(rest)) {
      listing.add(paths[0]!);
      calls.push(`list ${paths[0]}`);
    } else {
      calls.push([nameOf(name, rest), ...paths].join(" "));
    }
  }
  return calls;
}

/** Without the result, in which -y names the file once more. */
function argumentsOf(rest: string): string {
  return rest.replace(/ = -?\d+(<[^>]*>)?[^=]*$/, "");
}

function nameOf(name: string, rest: string): string {
  if (name === "openat") return rest.includes("O_CREAT") ? "create" : "open";
  return NAMES[name] ?? name;
}
