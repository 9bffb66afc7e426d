export * from "./layout.ts";
export * from "./ndef.ts";
export * from "./plan.ts";
export * from "./tag-model.ts";
export * from "./tlv.ts";
