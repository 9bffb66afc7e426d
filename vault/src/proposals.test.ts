import assert from "node:assert/strict";
import { test } from "node:test";
import { DAY, NOW } from "./fixtures.test.ts";
import { isRenewalDue, isRenewalUnwanted } from "./proposals.ts";
import type { EventRecord } from "./records.ts";

test("a renewal is proposed before half of a life is over, and not before it is needed", () => {
  for (const [role, days] of [
    ["batches", 120],
    ["targets", 365],
  ] as const) {
    const expires = NOW + days * DAY;
    const due = Array.from({ length: days }, (_, day) => day).find((day) =>
      isRenewalDue(role, expires, NOW + day * DAY),
    )!;
    assert.equal(isRenewalDue(role, expires, NOW), false, `${role} was just signed`);
    assert.ok(due >= 0.35 * days && due <= 0.45 * days, `${role}: day ${due} of ${days}`);
    assert.equal(isRenewalDue(role, expires, expires + DAY), true, `${role} has expired`);
  }
});

test("trustees who rejected a renewal are left alone for a week; a rejected request says nothing about renewals", () => {
  const rejected = { since: NOW, requestedBy: [] } as unknown as EventRecord;
  const asked = { since: NOW, requestedBy: [new Uint8Array(32)] } as unknown as EventRecord;
  assert.equal(isRenewalUnwanted(rejected, NOW + 7 * DAY - 1), true);
  assert.equal(isRenewalUnwanted(rejected, NOW + 7 * DAY), false);
  assert.equal(isRenewalUnwanted(asked, NOW), false);
  assert.equal(isRenewalUnwanted(undefined, NOW), false);
});
