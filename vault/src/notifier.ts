/**
 * The observer that tells people: it looks at what the database says, writes down what is news and for whom, and tells
 * it. It runs beside the sequencer and nobody waits for it; whatever goes wrong here is reported and nothing else.
 *
 * A piece of news is claimed in the database before it leaves. What was claimed by a process that then died may have
 * left, and is not told again.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readFileBounded, readFileIfPresent } from "@viafabric/platform";
import { FormatError, formatHex, quote } from "@viafabric/schemas";
import { type Expiry, expiryOf, REJECTION_REASON_LENGTH_MAX, type TrustedState } from "@viafabric/tuf";
import { LIFETIMES } from "./genesis.ts";
import type { Home } from "./home.ts";
import { NEWS_SECONDS, type News, newsOfEvent, newsOfLifetimes } from "./news.ts";
import { type Delivery, fileMail, postWebhook } from "./notify.ts";
import { NOTIFY_BYTES_MAX, type NotifyConfig, parseNotifyConfig, type Webhook } from "./notify-config.ts";
import type { Store } from "./store.ts";

/** A place where news goes, ready to be used. */
export interface Channel {
  readonly name: string;
  readonly wants: (news: News) => boolean;
  readonly tell: (news: News) => Promise<Delivery>;
}

export interface NotifierDependencies {
  readonly store: Store;
  readonly authority: Uint8Array;
  readonly channels: readonly Channel[];
  /** What has a life that runs out, now. */
  readonly expiries: () => Promise<readonly Expiry[]>;
  /** Unix seconds. */
  readonly now: () => number;
  readonly report: (line: string, details: Readonly<Record<string, unknown>>) => void;
}

const IDLE_MS = 5000;
/** Far longer than anything is news or is tried again, so that a clock that is set back tells nothing twice. */
const KEPT_SECONDS = 30 * 86_400;
/** From half a minute on, doubled each time: together about a day. */
const RETRY_SECONDS = 30;
const ATTEMPTS_MAX = 12;
/** Told in one look, so that stopping never waits long. */
const TOLD_MAX = 20;
const SECRET_BYTES_MIN = 32;
const SECRET_BYTES_MAX = 4096;

/** @throws FormatError ERR_NOTIFY; an empty list where there is no notify.json */
export async function openChannels(home: Home, authority: Uint8Array): Promise<readonly Channel[]> {
  const bytes = await readFileIfPresent(home.notify, NOTIFY_BYTES_MAX);
  if (!bytes) return [];
  const { webhooks, mailFolders }: NotifyConfig = parseNotifyConfig(bytes);
  const channels: Channel[] = [];
  for (const webhook of webhooks) {
    const secret = await readSecret(path.resolve(home.root, webhook.secretFile), webhook);
    const tell = (news: News) => postWebhook(webhook, secret, bodyOf(news, authority, webhook.name));
    channels.push({ name: webhook.name, wants: ({ kind }) => webhook.on.includes(kind), tell });
  }
  for (const mail of mailFolders) {
    const folder = path.resolve(home.root, mail.folder);
    const wants = ({ kind }: News) => mail.on.includes(kind);
    // Each recipient by themselves: what one has got is not sent again because another's did not go through.
    for (const to of mail.to)
      channels.push({
        name: `${mail.name}/${to}`,
        wants,
        tell: (news) => fileMail({ ...mail, folder }, to, { ...news, lines: linesOf(news, authority) }),
      });
  }
  return channels;
}

export class Notifier {
  readonly #deps: NotifierDependencies;
  readonly #ending = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: NotifierDependencies) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#deps.channels.length > 0) this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#loop;
  }

  /** Writes down what is news and tells what is due. */
  async look(): Promise<void> {
    const { store, channels, now } = this.#deps;
    const at = now();
    const histories = await store.eventHistories(at - NEWS_SECONDS);
    const news = [
      ...histories.flatMap((event) => newsOfEvent(event, at)),
      ...newsOfLifetimes(await this.#deps.expiries()),
    ];
    await store.addNotifications(
      channels.flatMap(({ name, wants }) =>
        news.filter(wants).map((each) => ({ id: each.id, channel: name, body: JSON.stringify(each), at: each.at })),
      ),
      at,
    );
    // An alarm stays news for as long as its life goes on, however old it is.
    await store.forgetNotifications(
      at - KEPT_SECONDS,
      news.map(({ id }) => id),
    );
    for (let told = 0; told < TOLD_MAX && !this.#ending.signal.aborted; told++) {
      if (!(await this.#tellNext())) return;
    }
  }

  /** What a process before this one was telling when it ended may have been told. */
  async recover(): Promise<void> {
    const count = await this.#deps.store.abandonNotifications();
    if (count > 0) this.#deps.report("notifications were being sent when the vault ended: not sent again", { count });
  }

  async #run(): Promise<void> {
    let recovered = false;
    while (!this.#ending.signal.aborted) {
      try {
        if (!recovered) await this.recover();
        recovered = true;
        await this.look();
      } catch (error) {
        this.#deps.report("notifications wait", { error });
      }
      await sleep(IDLE_MS, undefined, { signal: this.#ending.signal }).catch(() => {});
    }
  }

  async #tellNext(): Promise<boolean> {
    const { store, channels, now, report } = this.#deps;
    const row = await store.claimNotification(
      channels.map(({ name }) => name),
      now(),
    );
    if (!row) return false;
    const channel = channels.find(({ name }) => name === row.channel)!;
    const delivery = await channel.tell(JSON.parse(row.body) as News);
    const spent = delivery.state === "pending" && row.attempts >= ATTEMPTS_MAX;
    const due = now() + RETRY_SECONDS * 2 ** (row.attempts - 1);
    await store.endNotification(row, { ...delivery, ...(spent && { state: "failed" }), due });
    if (delivery.state !== "sent")
      report("a notification did not go through", { channel: row.channel, id: row.id, ...delivery });
    return true;
  }
}

/** @param online when each online role's metadata expires, by role */
export function expiriesOf(
  { expires, keys }: Pick<TrustedState, "expires" | "keys">,
  online: readonly { readonly role: string; readonly from: number; readonly expires: number }[],
  now: number,
): readonly Expiry[] {
  const roles = (["root", "targets", "batches"] as const).map((role) =>
    expiryOf(role, expires[role] - LIFETIMES[role], expires[role], now),
  );
  return [
    ...roles,
    ...online.map(({ role, from, expires: until }) => expiryOf(role, from, until, now)),
    ...keys.map(({ purpose, key, from, until }) => expiryOf(`${purpose} key ${formatHex(key.kid)}`, from, until, now)),
  ];
}

/** News that says that news arrives. */
export function testNews(id: string, at: number): News {
  return { id: `test/${id}`, kind: "test", at, text: "this is a test of the vault's notifications" };
}

function bodyOf({ ...news }: News, authority: Uint8Array, channel: string): string {
  return JSON.stringify({ ...news, channel, authority: formatHex(authority) });
}

function linesOf({ event, reason, trustee }: News, authority: Uint8Array): readonly string[] {
  return [
    "",
    ...(trustee === undefined ? [] : [`trustee    ${trustee}`]),
    ...(reason === undefined ? [] : [`reason     ${quote(reason, 2 * REJECTION_REASON_LENGTH_MAX)}`]),
    ...(event
      ? [
          `proposal   ${event.id}`,
          `words      ${event.words}`,
          `approvals  ${event.approvals} of ${event.threshold}`,
          `open until ${new Date(event.expires * 1000).toISOString()}`,
        ]
      : []),
    `authority  ${formatHex(authority)}`,
    "",
    "Believe none of this: run `via trustee status`, which checks everything itself.",
  ];
}

/** @throws FormatError ERR_NOTIFY for one that others can read, or that can be guessed */
async function readSecret(file: string, { name }: Webhook): Promise<Uint8Array> {
  const secret = await readFileBounded(file, SECRET_BYTES_MAX);
  if ((await stat(file)).mode & 0o077) throw new FormatError("ERR_NOTIFY", `others can read ${file}: chmod 600 it`);
  if (secret.length < SECRET_BYTES_MIN)
    throw new FormatError(
      "ERR_NOTIFY",
      `the secret of ${name} has ${secret.length} bytes, less than ${SECRET_BYTES_MIN}`,
    );
  return secret;
}
