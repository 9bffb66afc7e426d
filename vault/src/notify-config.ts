/**
 * `H/notify.json`: who is told what happens to proposals and lifetimes. Read strictly: a misspelled setting that is
 * passed over would be noticed on the day when nobody was told.
 *
 *     {
 *       "webhooks": [{ "name": "ops", "url": "https://ops.example.org/via", "secretFile": "private/ops.secret" }],
 *       "mailFolders": [{ "name": "trustees", "folder": "spool", "from": "vault@example.org", "to": ["a@example.org"] }]
 *     }
 *
 * Files are named relative to the home folder. `"on": ["rejected", …]` in an entry narrows it to these kinds of news.
 */
import { FormatError, quote, URI_LENGTH_MAX } from "@viafabric/schemas";
import { NEWS_KINDS, type NewsKind } from "./news.ts";

interface Named {
  readonly name: string;
  readonly on: readonly NewsKind[];
}

export interface Webhook extends Named {
  readonly url: string;
  readonly secretFile: string;
}

export interface MailFolder extends Named {
  readonly folder: string;
  readonly from: string;
  readonly to: readonly string[];
}

export interface NotifyConfig {
  readonly webhooks: readonly Webhook[];
  readonly mailFolders: readonly MailFolder[];
}

export const NOTIFY_BYTES_MAX = 64 * 1024;
/** More than that many places belong behind one that passes news on. */
const CHANNELS_MAX = 8;
const RECIPIENTS_MAX = 64;
const ADDRESS_LENGTH_MAX = 254;
const PATH_LENGTH_MAX = 1024;

/** @throws FormatError ERR_NOTIFY */
export function parseNotifyConfig(bytes: Uint8Array): NotifyConfig {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new FormatError("ERR_NOTIFY", "notify.json is not JSON", { cause });
  }
  const fields = fieldsOf("notify.json", value, [], ["webhooks", "mailFolders"]);
  const webhooks = listOf("webhooks", fields.get("webhooks"), CHANNELS_MAX).map(asWebhook);
  const mailFolders = listOf("mailFolders", fields.get("mailFolders"), CHANNELS_MAX).map(asMailFolder);
  const names = [...webhooks, ...mailFolders].map(({ name }) => name);
  if (new Set(names).size < names.length) throw wrong("a name stands for one channel");
  return { webhooks, mailFolders };
}

function asWebhook(value: unknown): Webhook {
  const fields = fieldsOf("a webhook", value, ["name", "url", "secretFile"], ["on"]);
  const url = textOf("url", fields.get("url"), URI_LENGTH_MAX);
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== "https:" && parsed?.protocol !== "http:") throw wrong(`not an address: ${quote(url)}`);
  // What stands in an address ends up in logs; a secret has its file.
  if (parsed.username !== "" || parsed.password !== "") throw wrong("an address holds no user name and no password");
  return { ...named(fields), url, secretFile: textOf("secretFile", fields.get("secretFile"), PATH_LENGTH_MAX) };
}

function asMailFolder(value: unknown): MailFolder {
  const fields = fieldsOf("a mail folder", value, ["name", "folder", "from", "to"], ["on"]);
  const to = listOf("to", fields.get("to"), RECIPIENTS_MAX).map(asAddress);
  if (to.length === 0) throw wrong("a mail folder has somebody to write to");
  const folder = textOf("folder", fields.get("folder"), PATH_LENGTH_MAX);
  return { ...named(fields), folder, from: asAddress(fields.get("from")), to };
}

function named(fields: ReadonlyMap<string, unknown>): Named {
  const name = textOf("name", fields.get("name"), 32);
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) throw wrong(`a name is of a-z, 0-9 and -, not ${quote(name)}`);
  if (!fields.has("on")) return { name, on: NEWS_KINDS };
  const on = listOf("on", fields.get("on"), NEWS_KINDS.length).map((kind) => {
    const known = NEWS_KINDS.find((each) => each === kind);
    if (!known) throw wrong(`no kind of news: ${quote(String(kind))}; there are ${NEWS_KINDS.join(", ")}`);
    return known;
  });
  return { name, on };
}

/** Plain addresses only: what goes into a header cannot begin another one. */
function asAddress(value: unknown): string {
  const text = textOf("an address", value, ADDRESS_LENGTH_MAX);
  if (!/^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9][A-Za-z0-9.-]*$/.test(text))
    throw wrong(`not a mail address: ${quote(text)}`);
  return text;
}

function fieldsOf(
  what: string,
  value: unknown,
  required: readonly string[],
  optional: readonly string[],
): ReadonlyMap<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${what} is an object`);
  const fields = new Map(Object.entries(value));
  for (const key of fields.keys())
    if (!required.includes(key) && !optional.includes(key)) throw wrong(`${what} has no setting ${quote(key)}`);
  for (const key of required) if (!fields.has(key)) throw wrong(`${what} lacks ${key}`);
  return fields;
}

function listOf(name: string, value: unknown, lengthMax: number): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > lengthMax) throw wrong(`${name} is a list of at most ${lengthMax}`);
  return value;
}

function textOf(name: string, value: unknown, lengthMax: number): string {
  if (typeof value !== "string" || value === "" || value.length > lengthMax || /\p{Cc}/u.test(value))
    throw wrong(`${name} is text of 1 to ${lengthMax} characters`);
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_NOTIFY", reason);
}
