/** Many rounds of people who speak at one moment; `VIA_SEED` plays the same ones again. */
import { test } from "node:test";
import { voicesAtOnce, withdrawalAtOnce } from "./testing-voices.test.ts";

const ROUNDS = 50;

test("every voice survives once and the k-th freezes the file once, round after round", (t) =>
  voicesAtOnce(ROUNDS, (line) => t.diagnostic(line)));

test("of a withdrawal and a k-th approval exactly one wins, round after round", (t) =>
  withdrawalAtOnce(ROUNDS, (line) => t.diagnostic(line)));
