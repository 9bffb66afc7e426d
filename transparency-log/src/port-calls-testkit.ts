/**
 * What the ports of a log are asked to do, and the file-system calls that this must come to: how each of the writing
 * functions keeps its promise, call by call. A call that is in a trace and not in here is one that nobody thought of.
 */
import { lockFolder } from "@viafabric/platform";
import { folderFiles, folderStaging, type Log, type LogFolders, openLogOn } from "./log.ts";

export type PortCall =
  | { readonly port: "open"; readonly folder: string; readonly stagingFolder: string }
  | { readonly port: "read" | "list" | "remove" | "durable"; readonly path: string }
  | { readonly port: "grow" | "free"; readonly path: string }
  | { readonly port: "immutable"; readonly folder: string; readonly paths: readonly string[] }
  | { readonly port: "close"; readonly stagingFolder: string };

/** As openLog; each call of a port goes to `calls` as well. */
export async function reportedLog(options: LogFolders, calls: PortCall[]): Promise<Log> {
  const { folder, stagingFolder } = options;
  calls.push({ port: "open", folder, stagingFolder });
  const [files, staging] = [await folderFiles(folder), await folderStaging(stagingFolder)];
  const unlock = await lockFolder(stagingFolder);
  const staged = (name: string) => `${stagingFolder}/${name}`;
  return openLogOn(
    {
      ...options,
      files: {
        read(file) {
          calls.push({ port: "read", path: `${folder}/${file}` });
          return files.read(file);
        },
        putImmutable(all) {
          calls.push({ port: "immutable", folder, paths: all.map((file) => file.path) });
          return files.putImmutable(all);
        },
        replace(file, bytes) {
          calls.push({ port: "durable", path: `${folder}/${file}` });
          return files.replace(file, bytes);
        },
        freeBytes() {
          calls.push({ port: "free", path: folder });
          return files.freeBytes();
        },
      },
      staging: {
        list() {
          calls.push({ port: "list", path: stagingFolder });
          return staging.list();
        },
        read(name) {
          calls.push({ port: "read", path: staged(name) });
          return staging.read(name);
        },
        write(name, bytes) {
          calls.push({ port: "durable", path: staged(name) });
          return staging.write(name, bytes);
        },
        remove(name) {
          calls.push({ port: "remove", path: staged(name) });
          return staging.remove(name);
        },
        grow(name, frontier) {
          calls.push({ port: "grow", path: staged(name) });
          return staging.grow(name, frontier);
        },
        freeBytes() {
          calls.push({ port: "free", path: stagingFolder });
          return staging.freeBytes();
        },
        close: () => staging.close(),
      },
    },
    async () => {
      calls.push({ port: "close", stagingFolder });
      await unlock();
    },
  );
}

/**
 * @param present files and folders that are there before the first call
 * @returns the calls, each as its name and paths, temporary files without process and number
 */
export function fileCallsOf(calls: readonly PortCall[], present: ReadonlySet<string>): readonly string[] {
  const there = new Set(present);
  const made: string[] = [];

  const syncFolder = (folder: string) => made.push(`open ${folder}`, `sync ${folder}`, `close ${folder}`);
  /** @param before what was there when several of these started together: each goes up as far as that. */
  const ensureFolder = (folder: string, before: ReadonlySet<string>): void => {
    // mkdir from the bottom up until a parent is there, then down again.
    made.push(`mkdir ${folder}`);
    if (before.has(folder)) return void made.push(`stat ${folder}`);
    const missing = [folder];
    for (let at = parentOf(folder); !before.has(at); at = parentOf(at)) missing.push(at);
    if (missing.length > 1) made.push(...missing.slice(1).map((name) => `mkdir ${name}`));
    if (missing.length > 1) made.push(...missing.slice(0, -1).map((name) => `mkdir ${name}`));
    for (const name of missing) {
      // What another one made meanwhile is looked at, and synced by the other.
      if (there.has(name)) made.push(`stat ${name}`);
      else syncFolder(parentOf(name));
      there.add(name);
    }
  };
  const written = (temporary: string) =>
    made.push(...["create", "write", "chmod", "sync", "close"].map((name) => `${name} ${temporary}`));
  const read = (file: string) =>
    made.push(`open ${file}`, ...(there.has(file) ? [`stat ${file}`, `read ${file}`, `close ${file}`] : []));
  const put = (file: string): void => {
    made.push(`stat ${file}`);
    if (there.has(file)) return void read(file);
    written(temporaryOf(file));
    made.push(`link ${temporaryOf(file)} ${file}`, `unlink ${temporaryOf(file)}`);
    there.add(file);
  };

  for (const call of calls) {
    switch (call.port) {
      case "open": {
        for (const folder of [call.folder, call.stagingFolder]) ensureFolder(folder, there);
        const lock = `${call.stagingFolder}/lock`;
        made.push(`list ${call.stagingFolder}`, `create ${lock}.PID`, `write ${lock}.PID`, `close ${lock}.PID`);
        made.push(`link ${lock}.PID ${lock}`, `unlink ${lock}.PID`);
        break;
      }
      case "read":
        read(call.path);
        break;
      case "grow":
        made.push(`stat ${call.path}`);
        read(call.path);
        break;
      case "free":
        made.push(`statfs ${call.path}`);
        break;
      case "list":
        made.push(`list ${call.path}`);
        break;
      case "remove":
        made.push(`unlink ${call.path}`);
        there.delete(call.path);
        break;
      case "durable":
        written(temporaryOf(call.path));
        made.push(`rename ${temporaryOf(call.path)} ${call.path}`);
        syncFolder(parentOf(call.path));
        there.add(call.path);
        break;
      case "immutable": {
        const files = call.paths.map((file) => `${call.folder}/${file}`);
        const parents = new Set(files.map(parentOf));
        const before = new Set(there);
        for (const parent of parents) ensureFolder(parent, before);
        for (const file of files) put(file);
        for (const parent of parents) syncFolder(parent);
        break;
      }
      case "close":
        made.push(`unlink ${call.stagingFolder}/lock`);
        break;
    }
  }
  return made;
}

function temporaryOf(file: string): string {
  return `${parentOf(file)}/.${file.slice(parentOf(file).length + 1)}.tmp`;
}

function parentOf(file: string): string {
  return file.slice(0, file.lastIndexOf("/"));
}
