import assert from "node:assert/strict";
import { test } from "node:test";
import { DAY, NOW } from "./fixtures.test.ts";
import { isRenewalDue } from "./proposals.ts";

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
