/** RFC 7512, the examples of its section 3 among others, and everything in a URI that is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, utf8 } from "@viafabric/schemas";
import { formatHsmUri, type HsmUri, parseHsmUri } from "./uri.ts";

const refused = (text: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, "ERR_HSM_URI", text);
  return true;
};

test("what a URI names", () => {
  const rows: readonly (readonly [string, HsmUri])[] = [
    ["pkcs11:", { token: {} }],
    ["pkcs11:token=vault", { token: { tokenLabel: "vault" } }],
    [
      "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91",
      {
        token: { tokenLabel: "The Software PKCS#11 Softtoken", manufacturer: "Snake Oil, Inc.", model: "1.0" },
        object: "my-certificate",
        id: Uint8Array.from([0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91]),
      },
    ],
    ["pkcs11:serial=0123;id=%00%FFa", { token: { tokenSerial: "0123" }, id: Uint8Array.from([0, 255, 97]) }],
    [
      "pkcs11:object=my-sign-key;type=private?pin-source=file:/etc/token",
      { token: {}, object: "my-sign-key", pinFile: "/etc/token" },
    ],
    [
      "pkcs11:token=a?module-path=/usr/lib/lib%20x.so&pin-source=file:///run/pin",
      { token: { tokenLabel: "a" }, module: "/usr/lib/lib x.so", pinFile: "/run/pin" },
    ],
    ["pkcs11:token=padded%20%20%20%00", { token: { tokenLabel: "padded" } }],
    ["pkcs11:token=%C3%A9", { token: { tokenLabel: "é" } }],
  ];
  for (const [text, expected] of rows) assert.deepEqual(parseHsmUri(text), expected, text);
});

test("what is refused", () => {
  for (const text of [
    "",
    "token=a",
    "PKCS11:token=a",
    "pkcs11:token=a;token=b",
    "pkcs11:token=a;surprise=1",
    "pkcs11:token=a;x-vendor=1",
    "pkcs11:slot-id=0",
    "pkcs11:library-description=x",
    "pkcs11:token",
    "pkcs11:token=",
    "pkcs11:token=a;",
    "pkcs11:;token=a",
    "pkcs11:token=%20",
    "pkcs11:token=a%0ab",
    "pkcs11:token=%C3",
    "pkcs11:token=a%2",
    "pkcs11:token=a%zz",
    "pkcs11:token=a b",
    "pkcs11:token=é",
    "pkcs11:token=a/b",
    "pkcs11:id=",
    `pkcs11:id=${"%01".repeat(65)}`,
    "pkcs11:type=public",
    "pkcs11:type=cert",
    "pkcs11:token=a?module-path=lib.so",
    "pkcs11:token=a?module-path=//host/lib.so",
    "pkcs11:token=a?module-name=softhsm2",
    "pkcs11:token=a?pin-source=/a&pin-source=/b",
    "pkcs11:token=a?pin-source=%7C/usr/bin/pin",
    "pkcs11:token=a?pin-source=|/usr/bin/pin",
    "pkcs11:token=a?pin-source=file:relative",
    "pkcs11:token=a?pin-source=http://example.org/pin",
    "pkcs11:token=a?surprise=1",
    `pkcs11:token=${"a".repeat(2048)}`,
  ])
    assert.throws(() => parseHsmUri(text), refused(text), text);
});

test("a PIN in a URI is refused wherever it stands, and not repeated", () => {
  for (const text of [
    "pkcs11:token=a;pin-value=hunter22",
    "pkcs11:pin-value=hunter22",
    "pkcs11:token=a?pin-value=hunter22",
    "pkcs11:token=a?module-path=/x&pin-value=hunter22",
    "pkcs11:token=hunter22;slot-id=hunter22",
    "pkcs11:token=a?pin-source=|hunter22",
    "pkcs11:token=a b;object=hunter22",
  ])
    assert.throws(
      () => parseHsmUri(text),
      (error) => refused(text)(error) && !String(error).includes("hunter22"),
    );
});

test("a URI that we write is one that we read", () => {
  for (const uri of [
    { token: { tokenLabel: "vault; 100 % é?&", tokenSerial: "0123" } },
    { token: { tokenSerial: "x", manufacturer: "A/B", model: "c=d" }, object: "my key", id: utf8("\0id") },
  ])
    assert.deepEqual(parseHsmUri(formatHsmUri(uri)), uri);
  // Any wrong neighbour of a good URI is another URI or a coded refusal.
  const good = "pkcs11:token=vault;serial=0123;id=%01%ff?module-path=/usr/lib/x.so&pin-source=/run/pin";
  for (let at = 0; at < good.length; at++)
    for (const other of ["", "%", "=", ";", "&", "?", "\0", "é"]) {
      const text = good.slice(0, at) + other + good.slice(at + 1);
      try {
        parseHsmUri(text);
      } catch (error) {
        refused(text)(error);
      }
    }
});
