import assert from "node:assert/strict";
import { test } from "node:test";
import { expiryOf } from "@viafabric/tuf";
import { calendarOf } from "./calendar.ts";
import { DAY, KEYS, NOW } from "./fixtures.test.ts";

test("alarms sound at half of a lifetime, at 80 % and at its end", () => {
  const life = (now: number) => expiryOf("x", 1000, 2000, now).alarm;
  assert.deepEqual([1000, 1499, 1500, 1799, 1800, 1999, 2000, 5000].map(life), [
    ...["none", "none", "50%", "50%", "80%", "80%", "expired", "expired"],
  ]);
  const { half, late } = expiryOf("x", 1000, 2000, 0);
  assert.deepEqual([half, late], [1500, 1800]);
});

test("the calendar is in the order of expiry and knows the lifetimes of roles", () => {
  const key = { key: KEYS.issuer.publicKey, purpose: "issuer", class: "hardware" } as const;
  const keys = [{ ...key, from: NOW - 90 * DAY, until: NOW + 10 * DAY }];
  const expires = { root: NOW + 700 * DAY, targets: NOW + 100 * DAY, batches: NOW + 30 * DAY };
  const calendar = calendarOf({ expires, keys }, NOW);
  assert.deepEqual(
    calendar.map(({ what, alarm }) => [what.split(" ")[0], alarm]),
    [
      ["issuer", "80%"],
      ["batches", "50%"],
      ["targets", "50%"],
      ["root", "none"],
    ],
  );
});
