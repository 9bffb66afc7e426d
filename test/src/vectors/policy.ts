/** Policy bundles and capability profiles, which trustees sign as TUF targets. */
import {
  type CborValue,
  decodeCbor,
  encodePolicyManifest,
  encodeProfile,
  formatHex,
  hashLeaf,
  policyLeaf,
  policyManifestOf,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { AUTHORITY, altered, invalid, misspelled, type VectorFile } from "./common.ts";

export function policyVectors(): VectorFile {
  const lineage = utf8('{"policy_lineage":1}');
  const files = new Map([
    ["limits/basic.rego", utf8("package limits\nmax := 10\n")],
    ["README", utf8("Read me.\n")],
  ]);
  const first = policyManifestOf(AUTHORITY, sha256(lineage), undefined, files);
  const one = encodePolicyManifest(first);
  const two = encodePolicyManifest(
    policyManifestOf(AUTHORITY, sha256(lineage), one, new Map([...files, ["README", utf8("Read this.\n")]])),
  );
  const [readme, limits] = (decodeCbor(one) as ReadonlyMap<number, CborValue>).get(
    7,
  ) as readonly (readonly CborValue[])[];
  const profile = encodeProfile({
    id: "edge-basic",
    version: 1,
    title: "Basic use of an edge node",
    quotas: new Map([
      ["cpu_hours", 10],
      ["storage_gb", 5],
    ]),
  });
  const text = Buffer.from(profile).toString();
  const badManifests: readonly (readonly [string, Readonly<Record<number, CborValue | undefined>>])[] = [
    ["another version of the format", { 1: 2 }],
    ["version 0", { 4: 0 }],
    ["version 2 without the one before", { 4: 2 }],
    ["version 1 with one before", { 5: sha256(one) }],
    ["a root of other entries", { 6: new Uint8Array(32) }],
    ["no file", { 7: [] }],
    ["files that do not ascend", { 7: [limits!, readme!] }],
    ["a file twice", { 7: [readme!, readme!] }],
    ["a path that climbs", { 7: [["../README", readme![1]!, readme![2]!], limits!] }],
    ["a hidden file", { 7: [[".README", readme![1]!, readme![2]!], limits!] }],
    ["more bytes than a bundle has", { 7: [[readme![0]!, readme![1]!, 4 * 1024 * 1024], limits!] }],
    ["a lineage of 31 bytes", { 3: new Uint8Array(31) }],
    ["an unknown field", { 8: 0 }],
  ];
  const badProfiles: readonly (readonly [string, string])[] = [
    ["white space", text.replace(",", ", ")],
    ["members in another order", text.replace(/^\{(.*),"version":1\}$/, '{"version":1,$1}')],
    ["version 0", text.replace('"version":1', '"version":0')],
    ["an id in capitals", text.replace("edge-basic", "Edge")],
    ["a quota below zero", text.replace(":10", ":-1")],
    ["an escape in the title", text.replace("Basic", "\\u001b")],
    ["an unknown member", text.replace('"version"', '"more":1,"version"')],
  ];
  return {
    description: "policy/manifest.cbor and profiles/<id>.json.",
    lineage: formatHex(lineage),
    files: Object.fromEntries([...files].map(([path, bytes]) => [path, formatHex(bytes)])),
    leaves: first.entries.map((entry) => ({
      leaf: formatHex(policyLeaf(entry)),
      hash: formatHex(hashLeaf(policyLeaf(entry))),
    })),
    valid: [
      { name: "bundle 1", read: "decodePolicyManifest", hex: formatHex(one) },
      { name: "bundle 2", read: "decodePolicyManifest", hex: formatHex(two) },
      { name: "profile", read: "decodeProfile", hex: formatHex(profile) },
    ],
    invalid: [
      ...misspelled("decodePolicyManifest", one, "ERR_POLICY_BUNDLE"),
      ...badManifests.map(([name, change]) =>
        invalid("decodePolicyManifest", name, altered(one, change), "ERR_POLICY_BUNDLE"),
      ),
      ...badProfiles.map(([name, bad]) => invalid("decodeProfile", name, utf8(bad), "ERR_PROFILE")),
    ],
  };
}
