/** Pure: formats and verification of the log. Reading a log is `./client`, keeping one is `./log`. */
export * from "./checkpoint.ts";
export * from "./entry-bundle.ts";
export * from "./policy.ts";
export * from "./proof.ts";
export * from "./tile.ts";
export * from "./tile-edge.ts";
