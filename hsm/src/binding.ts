/**
 * The only door to `pkcs11js`, and nothing else: a thread that must be there soon imports this and not the house.
 *
 * The binding is an optional native package and is loaded when a module is opened, so everything else in the house
 * works on machines without it.
 */
import { stat } from "node:fs/promises";
import type { PKCS11 } from "pkcs11js";

/** PKCS#11 v3.1 names that the binding does not have, or that we want without loading it. */
export const CK = {
  CKA_CLASS: 0x0,
  CKA_TOKEN: 0x1,
  CKA_PRIVATE: 0x2,
  CKA_LABEL: 0x3,
  CKA_VALUE: 0x11,
  CKA_KEY_TYPE: 0x100,
  CKA_ID: 0x102,
  CKA_SENSITIVE: 0x103,
  CKA_ENCRYPT: 0x104,
  CKA_DECRYPT: 0x105,
  CKA_WRAP: 0x106,
  CKA_UNWRAP: 0x107,
  CKA_SIGN: 0x108,
  CKA_SIGN_RECOVER: 0x109,
  CKA_VERIFY: 0x10a,
  CKA_DERIVE: 0x10c,
  CKA_EXTRACTABLE: 0x162,
  CKA_LOCAL: 0x163,
  CKA_NEVER_EXTRACTABLE: 0x164,
  CKA_ALWAYS_SENSITIVE: 0x165,
  CKA_EC_PARAMS: 0x180,
  CKA_EC_POINT: 0x181,
  CKO_PUBLIC_KEY: 2,
  CKO_PRIVATE_KEY: 3,
  CKK_EC: 3,
  CKK_EC_EDWARDS: 0x40,
  CKM_EC_KEY_PAIR_GEN: 0x1040,
  CKM_ECDSA: 0x1041,
  CKM_EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
  CKM_EDDSA: 0x1057,
  CKF_OS_LOCKING_OK: 2,
  CKF_RW_SESSION: 2,
  CKF_SERIAL_SESSION: 4,
  CKF_TOKEN_INITIALIZED: 0x400,
  CKS_RO_USER_FUNCTIONS: 1,
  CKS_RW_USER_FUNCTIONS: 3,
  CKU_SO: 0,
  CKU_USER: 1,
} as const;

/** @throws Error, in words for a person. The module is not initialised here */
export async function loadBinding(file: string): Promise<PKCS11> {
  const binding = await import("pkcs11js").catch((cause: unknown) => {
    throw new Error(
      "the PKCS#11 binding is missing: install a C++ compiler and make, then run `npm rebuild pkcs11js`",
      { cause },
    );
  });
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile())
    throw new Error(
      `there is no PKCS#11 module at ${file}: install the device's software (for tests: apt-get install softhsm2)`,
    );
  const library = new binding.PKCS11();
  try {
    library.load(file);
  } catch (cause) {
    throw new Error(`${file} is not a PKCS#11 module that loads here`, { cause });
  }
  return library;
}
