export * from "./index-set.ts";
export * from "./rvx1.ts";
