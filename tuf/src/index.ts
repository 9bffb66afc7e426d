/** TUF: metadata, thresholds, the authority, signing events. Pure; the client that touches the world is `./client`. */
export * from "./attachments.ts";
export * from "./builders.ts";
export * from "./canonical.ts";
export * from "./cards.ts";
export * from "./former-rotation.ts";
export * from "./genesis-signatures.ts";
export * from "./keys.ts";
export * from "./lifetime.ts";
export * from "./metadata.ts";
export * from "./pin.ts";
export * from "./policy.ts";
export * from "./rotation.ts";
export * from "./signing-event.ts";
export * from "./succession.ts";
export * from "./trust.ts";
export * from "./verify.ts";
