/** Who was told what: a row is claimed before it leaves. */
import type { NotificationRecord, NotificationState } from "../records.ts";
import type { Queries } from "./rows.ts";

export function notificationWrites(db: Queries) {
  return {
    /** News for a channel, once: what is known already stays as it is. */
    async addNotifications(
      rows: readonly { readonly id: string; readonly channel: string; readonly body: string; readonly at: number }[],
      due: number,
    ): Promise<void> {
      const data = rows.map((row) => ({ ...row, at: BigInt(row.at), due: BigInt(due), state: "pending" }));
      await db.notification.createMany({ data, skipDuplicates: true });
    },

    /** The oldest news that is due, claimed: whatever happens now, nobody claims it again by accident. */
    async claimNotification(channels: readonly string[], now: number): Promise<NotificationRecord | undefined> {
      const where = { state: "pending", channel: { in: [...channels] }, due: { lte: BigInt(now) } };
      const row = await db.notification.findFirst({ where, orderBy: [{ at: "asc" }, { id: "asc" }] });
      if (!row) return undefined;
      const { id, channel, body, attempts } = row;
      const { count } = await db.notification.updateMany({
        where: { id, channel, state: "pending" },
        data: { state: "sending", attempts: attempts + 1 },
      });
      return count === 1 ? { id, channel, body, attempts: attempts + 1 } : undefined;
    },

    async endNotification(
      { id, channel }: Pick<NotificationRecord, "id" | "channel">,
      end: { readonly state: NotificationState; readonly problem?: string; readonly due: number },
    ): Promise<void> {
      const { state, problem, due } = end;
      const data = { state, due: BigInt(due), problem: problem ?? null };
      await db.notification.update({ where: { id_channel: { id, channel } }, data });
    },

    /** Those that were being sent when the process before this one ended. @returns how many */
    async abandonNotifications(): Promise<number> {
      const data = { state: "unknown" satisfies NotificationState, problem: "the vault ended while it was sent" };
      return (await db.notification.updateMany({ where: { state: "sending" }, data })).count;
    },

    /** Old rows of what is no news any more. @param news ids that are told again once their rows are gone */
    async forgetNotifications(before: number, news: readonly string[]): Promise<void> {
      const where = { at: { lt: BigInt(before) }, state: { not: "sending" }, id: { notIn: [...news] } };
      await db.notification.deleteMany({ where });
    },
  };
}
