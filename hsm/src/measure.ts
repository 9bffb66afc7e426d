/**
 * For benches alone: the parts of the signing pool one by one, and a device that can be slowed down. What is signed
 * with these parts has not been verified; programs use `openHsm`.
 */
export { Device, type Era } from "./device.ts";
export { closeSession, openKeySession } from "./key-session.ts";
export { type PoolTask, packSize, packTask, signPack } from "./pack.ts";
export { loadLibrary } from "./pkcs11.ts";
export { buildShim, compile, type Shim } from "./shim-testkit.ts";
