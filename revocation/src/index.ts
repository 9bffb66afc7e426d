export * from "./chunk-file.ts";
export * from "./container.ts";
export * from "./index-set.ts";
export * from "./ledger.ts";
export * from "./rvx1.ts";
export * from "./set-root.ts";
export * from "./statement.ts";
export * from "./threshold.ts";
