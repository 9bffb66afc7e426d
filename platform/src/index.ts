export * from "./cli.ts";
export * from "./files.ts";
export * from "./journal.ts";
export * from "./keystore.ts";
export * from "./lock.ts";
export * from "./many-files.ts";
