export * from "./chunk-file.ts";
export * from "./container.ts";
export * from "./index-set.ts";
export * from "./rvx1.ts";
export * from "./set-root.ts";
