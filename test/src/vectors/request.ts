/** Signed HTTP requests: the headers, and what is signed. */
import { formatBase64, formatHex, parseBase64, type RequestHeaders, signRequest, utf8 } from "@viafabric/schemas";
import { AUTHORITY, describeKeys, filler, NOW, signer, type VectorFile } from "./common.ts";

interface RequestVector {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  /** Hex. */
  readonly body: string;
  readonly headers: RequestHeaders;
  /** When the server looks at it. */
  readonly now: number;
}

export async function requestVectors(): Promise<VectorFile> {
  const make = async (name: string, method: string, path: string, text: string): Promise<RequestVector> => {
    const body = utf8(text);
    const nonce = filler(name, 16);
    const headers = await signRequest(signer("station"), AUTHORITY, { method, path, body, time: NOW, nonce });
    return { name, method, path, body: formatHex(body), headers, now: NOW + 1 };
  };
  const kit = await make("ask for a kit", "POST", "/kits", '{"batch":1,"publicKey":"AAAA"}');
  const empty = await make("an empty body", "POST", "/events/00/rejections?dry=1", "");
  const headers = (change: Partial<RequestHeaders>): RequestHeaders => ({ ...kit.headers, ...change });
  const flipped = parseBase64(kit.headers["via-signature"]);
  const wrong: readonly (readonly [string, Partial<RequestVector>, string])[] = [
    ["another method", { method: "PUT" }, "ERR_SIGNATURE"],
    ["another path", { path: "/kits/1" }, "ERR_SIGNATURE"],
    ["a query added", { path: "/kits?all=1" }, "ERR_SIGNATURE"],
    ["another body", { body: formatHex(utf8("{}")) }, "ERR_SIGNATURE"],
    ["another nonce", { headers: headers({ "via-nonce": "AAAAAAAAAAAAAAAAAAAAAA" }) }, "ERR_SIGNATURE"],
    ["another time", { headers: headers({ "via-time": String(NOW + 1) }) }, "ERR_SIGNATURE"],
    [
      "a bit flipped",
      { headers: headers({ "via-signature": formatBase64(flipped.with(0, flipped[0]! ^ 1)) }) },
      "ERR_SIGNATURE",
    ],
    ["eleven minutes late", { now: NOW + 660 }, "ERR_REQUEST_STALE"],
    ["eleven minutes early", { now: NOW - 660 }, "ERR_REQUEST_STALE"],
    ["a time with a leading zero", { headers: headers({ "via-time": `0${NOW}` }) }, "ERR_REQUEST"],
    ["a key in capitals", { headers: headers({ "via-key": kit.headers["via-key"].toUpperCase() }) }, "ERR_REQUEST"],
    ["a nonce of 15 bytes", { headers: headers({ "via-nonce": "AAAAAAAAAAAAAAAAAAAA" }) }, "ERR_REQUEST"],
    [
      "a signature without padding",
      { headers: headers({ "via-signature": kit.headers["via-signature"].replace(/=+$/, "") }) },
      "ERR_REQUEST",
    ],
  ];
  return {
    description:
      "Signed requests. What is signed: `viafabric/request/v1` NUL, authority, then METHOD SP path LF time LF nonce LF hex SHA-256 of the body LF.",
    authority: formatHex(AUTHORITY),
    keys: describeKeys("station"),
    valid: [kit, empty],
    invalid: wrong.map(([name, change, code]) => ({ ...kit, ...change, name, code })),
  };
}
