/** Both sides of the witness protocol: asking witnesses to cosign a log, and being one. */
export * from "./cosigner.ts";
export * from "./known-logs.ts";
export * from "./witness-client.ts";
export * from "./witness-folder.ts";
export * from "./witness-protocol.ts";
