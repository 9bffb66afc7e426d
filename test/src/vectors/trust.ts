/** Trust files that trustees sign as TUF targets. */
import {
  type CborMap,
  type CborValue,
  decodeCbor,
  encodeCbor,
  encodeRules,
  encodeTrustKeys,
  formatHex,
  type KeyEntry,
  type Purpose,
} from "@viafabric/schemas";
import {
  AUTHORITY,
  altered,
  DAY,
  describeKeys,
  invalid,
  misspelled,
  NOW,
  publicKey,
  type VectorFile,
  type VectorKeyName,
} from "./common.ts";

export function trustVectors(): VectorFile {
  const entry = (name: VectorKeyName, purpose: Purpose): KeyEntry => {
    return {
      key: publicKey(name),
      purpose,
      class: purpose === "issuer" ? "hardware" : "software",
      from: NOW,
      until: NOW + 730 * DAY,
    };
  };
  const keys = encodeTrustKeys([
    entry("issuer", "issuer"),
    entry("issuerP256", "operator"),
    entry("holder", "status"),
    entry("release", "release"),
    entry("station", "station"),
  ]);
  const rules = encodeRules({
    authority: AUTHORITY,
    thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
    ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
    classes: new Map([["issuer", "hardware"]]),
  });
  const list = decodeCbor(keys) as readonly CborMap[];
  const first = list[0]!;
  const p256 = list.find((item) => item.get(3) === "operator")!;
  const changed = (item: CborMap, ...changes: [number, CborValue][]): CborMap => new Map([...item, ...changes]);
  const thresholds = (value: number): CborMap => {
    return new Map(["suspend", "revoke_kit", "revoke", "reinstate"].map((name) => [name, value]));
  };
  const badKeys: readonly (readonly [string, CborValue, string?])[] = [
    ["not a list", 1],
    ["a key twice", [first, first]],
    ["keys that do not ascend", [...list].reverse()],
    ["a kid that is not its key's", [changed(first, [1, new Uint8Array(32)])]],
    ["an unknown purpose", [changed(first, [3, "witness"])]],
    ["an unknown class", [changed(first, [4, "paper"])]],
    ["an unknown field", [changed(first, [7, 0])]],
    ["a status key on P-256", [changed(p256, [3, "status"])]],
    ["a key that is none", [changed(first, [2, new Uint8Array(44)])], "ERR_KEY"],
  ];
  const badRules = [
    ["another version", { 1: 2 }],
    ["no thresholds", { 3: undefined }],
    ["a threshold of zero", { 3: thresholds(0) }],
    ["a threshold of a crowd", { 3: thresholds(33) }],
    ["a hard age below the soft age", { 4: new Map([["edge-basic", [2, 1]]]) }],
    ["ages without the hard one", { 4: new Map([["edge-basic", [2]]]) }],
    ["an unknown class", { 5: new Map([["issuer", "paper"]]) }],
    ["an unknown purpose", { 5: new Map([["trustee", "hardware"]]) }],
  ] as const;
  return {
    description: "trust/keys.cbor and trust/rules.cbor.",
    keys: describeKeys("issuer", "issuerP256", "holder", "release", "station"),
    valid: [
      { name: "keys", read: "decodeTrustKeys", hex: formatHex(keys) },
      { name: "rules", read: "decodeRules", hex: formatHex(rules) },
    ],
    invalid: [
      ...badKeys.map(([name, value, code]) =>
        invalid("decodeTrustKeys", name, encodeCbor(value), code ?? "ERR_TRUST_FILE"),
      ),
      ...misspelled("decodeRules", rules, "ERR_TRUST_FILE"),
      ...badRules.map(([name, change]) =>
        invalid("decodeRules", name, altered(rules, change as never), "ERR_TRUST_FILE"),
      ),
    ],
  };
}
