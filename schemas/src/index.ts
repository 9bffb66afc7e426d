export * from "./bytes.ts";
export * from "./cbor.ts";
export * from "./crypto.ts";
export * from "./errors.ts";
export * from "./keys.ts";
export * from "./merkle.ts";
export * from "./note.ts";
export * from "./words.ts";
