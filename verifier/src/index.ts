export * from "./bundle.ts";
export * from "./check.ts";
export * from "./status.ts";
export * from "./trust.ts";
export * from "./verdict.ts";
