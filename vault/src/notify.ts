/**
 * Telling: one piece of news to one channel, and what is known afterwards.
 *
 * At most once. What certainly did not arrive may be tried again; where nobody knows (an answer that never came, a crash
 * in between), it is not. A webhook proves itself by an HMAC over its body, which names the fact and the channel; a mail
 * is a file that appears whole in a folder, for whatever takes it from there.
 */
import { createHmac } from "node:crypto";
import path from "node:path";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER, putImmutable } from "@viafabric/platform";
import { formatBase64, formatHex, sha256, utf8 } from "@viafabric/schemas";
import type { MailFolder, Webhook } from "./notify-config.ts";

export type Delivery =
  | { readonly state: "sent" }
  /** `pending`: it did not arrive. `failed`: it was refused for good. `unknown`: it may have arrived. */
  | { readonly state: "pending" | "failed" | "unknown"; readonly problem: string };

/** A receiver writes it down and answers; more than that it does afterwards. */
const ANSWER_MS = 10_000;
/** The connection was never made, so nothing of the news can have arrived. */
const NEVER_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);
/** Answers that say: later. */
const LATER = new Set([408, 425, 429, 500, 502, 503, 504]);

/** @param body JSON */
export async function postWebhook({ url }: Webhook, secret: Uint8Array, body: string): Promise<Delivery> {
  const hmac = createHmac("sha256", secret).update(body).digest("hex");
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      body,
      headers: { "content-type": "application/json", "via-hmac": `sha256=${hmac}` },
      // Whoever answers for the address does not get to send the news elsewhere.
      redirect: "manual",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    await response.body?.cancel();
  } catch (error) {
    const { code, message } = causeOf(error);
    return { state: code !== undefined && NEVER_CONNECTED.has(code) ? "pending" : "unknown", problem: message };
  }
  if (response.ok) return { state: "sent" };
  const problem = `the receiver answered ${response.status}`;
  return { state: LATER.has(response.status) ? "pending" : "failed", problem };
}

/** One message to one recipient, as RFC 5322 has it. */
export async function fileMail(
  { folder, from }: Pick<MailFolder, "folder" | "from">,
  to: string,
  news: { readonly id: string; readonly at: number; readonly text: string; readonly lines: readonly string[] },
): Promise<Delivery> {
  try {
    await ensureFolder(folder, PRIVATE_FOLDER);
    // The name follows from fact and recipient: what is there already is not written beside itself.
    const name = formatHex(sha256(utf8(`${news.id}\n${to}`)));
    await putImmutable(path.join(folder, `${name}.eml`), mailOf(from, to, name, news), PRIVATE_FILE);
    return { state: "sent" };
  } catch (error) {
    return { state: "pending", problem: causeOf(error).message };
  }
}

function mailOf(
  from: string,
  to: string,
  name: string,
  { at, text, lines }: { readonly at: number; readonly text: string; readonly lines: readonly string[] },
): Uint8Array {
  const header = [
    `From: ${from}`,
    `To: ${to}`,
    `Date: ${new Date(at * 1000).toUTCString().replace("GMT", "+0000")}`,
    `Subject: ${headerText(text)}`,
    `Message-ID: <${name}@${from.slice(from.indexOf("@") + 1)}>`,
    "Auto-Submitted: auto-generated",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: base64",
  ];
  // Base64 in lines of 76: whatever a trustee's reason holds, it begins no header and no line that is too long.
  const body = formatBase64(utf8(`${[text, ...lines].join("\r\n")}\r\n`)).replace(/.{76}/g, "$&\r\n");
  return utf8(`${header.join("\r\n")}\r\n\r\n${body}\r\n`);
}

/** Our own words, of roles, numbers and key ids; whatever else is in them is left out. */
function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
}

function causeOf(error: unknown): { readonly code: string | undefined; readonly message: string } {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as { code?: unknown; message?: unknown };
  return { code: typeof code === "string" ? code : undefined, message: String(message ?? cause).slice(0, 300) };
}
