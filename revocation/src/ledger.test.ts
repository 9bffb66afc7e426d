import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Action,
  type EventBody,
  FormatError,
  type Rules,
  sha256,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import type { IndexSet } from "./index-set.ts";
import { LedgerDraft, StatusLedger } from "./ledger.ts";
import { freshSeed, seeded } from "./testing.test.ts";
import { type Handling, requiredThreshold } from "./threshold.ts";

const authority = new Uint8Array(32).fill(1);
let nonces = 0;

/** An event with a nonce of its own. Ranges are [first, count]. */
function event(
  action: Action,
  ranges: readonly (readonly [number, number])[],
  undoes: readonly number[] = [],
): EventBody {
  return {
    authority,
    action,
    ranges: ranges.map(([first, count]) => ({ first, count })),
    reason: "test",
    notAfter: 2_000_000_000,
    undoes,
    nonce: sha256(utf8(String(nonces++))).slice(0, 16),
  };
}

function ledgerOf(n: number): StatusLedger {
  const ledger = new StatusLedger();
  ledger.applyBatch(0, n);
  return ledger;
}

const members = (set: IndexSet) => [...set];

test("an unlogged index is in no plane, a logged one is unreleased, gaps included", () => {
  const ledger = new StatusLedger();
  assert.deepEqual(ledger.planes().map(members), [[], [], []]);
  ledger.applyBatch(0, 3);
  ledger.applyBatch(5, 2);
  assert.equal(ledger.n, 7);
  assert.deepEqual(members(ledger.planes()[2]), [0, 1, 2, 3, 4, 5, 6]);
  ledger.applyEvent(10, event("release", [[0, 3]]));
  assert.deepEqual(members(ledger.planes()[2]), [3, 4, 5, 6]);
  ledger.applyEvent(11, event("release", [[1, 1]]));
  ledger.applyEvent(12, event("release", [[5, 2]]));
  assert.deepEqual(members(ledger.planes()[2]), [3, 4]);
});

test("suspend and revoke fill their own planes; one does not lift the other", () => {
  const ledger = ledgerOf(10);
  ledger.applyEvent(20, event("suspend", [[2, 3]]));
  ledger.applyEvent(21, event("revoke", [[4, 2]]));
  assert.deepEqual(ledger.planes().slice(0, 2).map(members), [
    [4, 5],
    [2, 3, 4],
  ]);
  ledger.applyEvent(22, event("reinstate", [[0, 10]], [20]));
  assert.deepEqual(ledger.planes().slice(0, 2).map(members), [[4, 5], []]);
  ledger.applyEvent(23, event("reinstate", [[4, 1]], [21]));
  assert.deepEqual(members(ledger.planes()[0]), [5]);
});

// [what happened before, the reinstatement's ranges, what it names, what stays suspended]
const undoRules: readonly [string, (ledger: StatusLedger) => void, [number, number][], number[], number[]][] = [
  [
    "frees what it covers of the event it names",
    (l) => l.applyEvent(1, event("suspend", [[2, 4]])),
    [[2, 2]],
    [1],
    [4, 5],
  ],
  [
    "leaves an index that an unnamed event still holds",
    (l) => {
      l.applyEvent(1, event("suspend", [[2, 4]]));
      l.applyEvent(2, event("suspend", [[3, 1]]));
    },
    [[0, 10]],
    [1],
    [3],
  ],
  [
    "frees an index when every event that holds it is named",
    (l) => {
      l.applyEvent(1, event("suspend", [[2, 4]]));
      l.applyEvent(2, event("suspend", [[3, 1]]));
    },
    [[0, 10]],
    [1, 2],
    [],
  ],
  [
    "does not hinder a later suspension",
    (l) => {
      l.applyEvent(1, event("suspend", [[2, 4]]));
      l.applyEvent(2, event("reinstate", [[2, 4]], [1]));
      l.applyEvent(3, event("suspend", [[3, 1]]));
    },
    [[2, 1]],
    [1],
    [3],
  ],
  [
    "adds up over several reinstatements",
    (l) => {
      l.applyEvent(1, event("suspend", [[2, 4]]));
      l.applyEvent(2, event("reinstate", [[2, 1]], [1]));
    },
    [[5, 1]],
    [1],
    [3, 4],
  ],
  [
    "undoes a holder's own suspension",
    (l) => l.applyHolderEvent(1, { evidenceHash: authority, index: 7 }),
    [[7, 1]],
    [1],
    [],
  ],
  [
    "of one plane leaves the other alone",
    (l) => {
      l.applyEvent(1, event("revoke", [[2, 4]]));
      l.applyEvent(2, event("suspend", [[2, 4]]));
    },
    [[2, 4]],
    [1],
    [2, 3, 4, 5],
  ],
];

for (const [claim, before, ranges, undoes, suspended] of undoRules) {
  test(`a reinstatement ${claim}`, () => {
    const ledger = ledgerOf(10);
    before(ledger);
    // Asked in between or not, and from a saved state, the answer is the same.
    const asked = ledger.clone();
    asked.planes();
    const reinstatement = event("reinstate", ranges, undoes);
    for (const replay of [ledger, asked, asked.clone()]) {
      if (replay.leaves < 9) replay.applyEvent(9, reinstatement);
      assert.deepEqual(members(replay.planes()[1]), suspended);
    }
  });
}

test("what may not be logged is refused, and changes nothing", () => {
  const ledger = ledgerOf(10);
  const suspension = event("suspend", [[2, 3]]);
  ledger.applyEvent(5, suspension);
  ledger.applyEvent(6, event("release", [[0, 1]]));
  const before = ledger.encode();
  const refused = (leafIndex: number, body: EventBody, code: string) => {
    assert.throws(() => ledger.checkEvent(leafIndex, body), { code });
    assert.throws(() => ledger.applyEvent(leafIndex, body), { code });
  };
  refused(6, event("suspend", [[0, 1]]), "ERR_EVENT_ORDER");
  refused(7, suspension, "ERR_EVENT_REPEATED");
  refused(7, event("suspend", [[9, 2]]), "ERR_EVENT_RANGE");
  refused(7, event("release", [[10, 1]]), "ERR_EVENT_RANGE");
  refused(7, event("reinstate", [[0, 1]], [4]), "ERR_EVENT_UNDOES");
  refused(7, event("reinstate", [[0, 1]], [6]), "ERR_EVENT_UNDOES");
  refused(7, event("revoke", [[0, 1]], [5]), "ERR_EVENT_UNDOES");
  assert.throws(() => ledger.applyBatch(9, 1), { code: "ERR_EVENT_RANGE" });
  assert.throws(() => ledger.applyBatch(10, 0), { code: "ERR_EVENT_RANGE" });
  assert.throws(() => ledger.applyHolderEvent(7, { evidenceHash: authority, index: 10 }), { code: "ERR_EVENT_RANGE" });
  ledger.applyHolderEvent(7, { evidenceHash: authority, index: 9 });
  const after = ledger.encode();
  assert.notDeepEqual(after, before);
  assert.throws(() => ledger.applyHolderEvent(8, { evidenceHash: authority, index: 9 }), {
    code: "ERR_EVENT_REPEATED",
  });
  assert.deepEqual(ledger.encode(), after);
});

test("an old suspension cannot be logged again after its reinstatement", () => {
  const ledger = ledgerOf(10);
  const suspension = event("suspend", [[2, 3]]);
  ledger.applyEvent(1, suspension);
  ledger.applyEvent(2, event("reinstate", [[2, 3]], [1]));
  assert.throws(() => ledger.clone().applyEvent(3, suspension), { code: "ERR_EVENT_REPEATED" });
});

test("heldBy names the events that a reinstatement must name", () => {
  const ledger = ledgerOf(10);
  ledger.applyEvent(1, event("suspend", [[2, 3]]));
  ledger.applyEvent(2, event("revoke", [[3, 1]]));
  ledger.applyEvent(3, event("reinstate", [[4, 1]], [1]));
  assert.deepEqual(ledger.heldBy(3), [
    { leafIndex: 1, plane: 1 },
    { leafIndex: 2, plane: 0 },
  ]);
  assert.deepEqual(ledger.heldBy(4), []);
});

test("the planes are those of the definition, index by index, whatever the history", () => {
  const random = seeded(freshSeed("ledger histories"));
  for (let round = 0; round < 60; round++) {
    let ledger = new StatusLedger();
    let n = 0;
    const log: { leaf: number; body: EventBody }[] = [];
    for (let leaf = 0; leaf < 40; leaf++) {
      if (n === 0 || random() < 0.2) {
        n += Math.floor(random() * 5);
        const count = 1 + Math.floor(random() * 20);
        ledger.applyBatch(n, count);
        n += count;
        continue;
      }
      const body = randomEvent(random, n, log);
      ledger.applyEvent(leaf, body);
      log.push({ leaf, body });
      if (random() < 0.3) ledger = ledger.clone();
      if (random() < 0.3) ledger.planes();
    }
    assert.deepEqual(ledger.planes().map(members), definition(n, log));
  }
});

function randomEvent(random: () => number, n: number, log: readonly { leaf: number; body: EventBody }[]): EventBody {
  const first = Math.floor(random() * n);
  const range: [number, number] = [first, 1 + Math.floor(random() * Math.min(8, n - first))];
  const holds = log.filter(({ body }) => body.action === "suspend" || body.action === "revoke");
  const action = (["suspend", "revoke", "release", "reinstate"] as const)[Math.floor(random() * 4)]!;
  if (action !== "reinstate") return event(action, [range]);
  const named = holds.filter(() => random() < 0.5).map(({ leaf }) => leaf);
  return named.length === 0 ? event("suspend", [range]) : event("reinstate", [range], named);
}

/** FORMATS "Log leaves" 03 and "Status", told the slow way. */
function definition(n: number, log: readonly { leaf: number; body: EventBody }[]): number[][] {
  const covers = (body: EventBody, i: number) => body.ranges.some((r) => r.first <= i && i < r.first + r.count);
  const undone = (leaf: number, i: number) =>
    log.some(({ body }) => body.action === "reinstate" && body.undoes.includes(leaf) && covers(body, i));
  const held = (action: Action, i: number) =>
    log.some(({ leaf, body }) => body.action === action && covers(body, i) && !undone(leaf, i));
  const released = (i: number) => log.some(({ body }) => body.action === "release" && covers(body, i));
  const indices = Array.from({ length: n }, (_, i) => i);
  return [
    indices.filter((i) => held("revoke", i)),
    indices.filter((i) => held("suspend", i)),
    indices.filter((i) => !released(i)),
  ];
}

test("a draft says what the ledger would say, and leaves it as it is until its steps are applied", () => {
  const random = seeded(freshSeed("drafts"));
  const below = (n: number) => Math.floor(random() * n);
  const actions = ["revoke", "suspend", "release", "reinstate"] as const;
  for (let round = 0; round < 200; round++) {
    const ledger = ledgerOf(50);
    const plain = ledgerOf(50);
    let leaf = 0;
    const known: EventBody[] = [];
    for (let append = 0; append < 4; append++) {
      const draft = new LedgerDraft(ledger);
      const before = ledger.encode();
      for (let i = 0; i < 5; i++) {
        const action = actions[below(4)]!;
        const undoes = action === "reinstate" ? [below(leaf + 2)] : [];
        const again = known.length > 0 && random() < 0.2;
        const body = again ? known[below(known.length)]! : event(action, [[below(70), 1 + below(5)]], undoes);
        known.push(body);
        const at = random() < 0.1 ? Math.max(0, leaf - 2) : leaf;
        const tries =
          random() < 0.2
            ? [outcome(() => plain.applyBatch(plain.n + below(3) - 1, 5)), undefined]
            : [outcome(() => plain.applyEvent(at, body)), outcome(() => draft.addEvent(at, body))];
        // A batch depends on where it stood before, so it is tried on the draft with what the ledger made of it.
        if (tries[1] === undefined) {
          if (tries[0] === "ok") draft.addBatch(plain.n - 5, 5);
        } else assert.equal(tries[1], tries[0]);
        leaf++;
      }
      assert.deepEqual(ledger.encode(), before);
      ledger.apply(draft.steps);
      assert.deepEqual(ledger.encode(), plain.encode());
      assert.deepEqual(ledger.planes(), plain.planes());
    }
  }
});

function outcome(work: () => void): string {
  try {
    work();
    return "ok";
  } catch (error) {
    assert.ok(error instanceof VerificationError);
    return error.code;
  }
}

test("a draft refuses a batch where the ledger would", () => {
  const draft = new LedgerDraft(ledgerOf(50));
  assert.throws(() => draft.addBatch(49, 5), { code: "ERR_EVENT_RANGE" });
  draft.addBatch(50, 5);
  assert.throws(() => draft.addBatch(54, 5), { code: "ERR_EVENT_RANGE" });
  assert.throws(() => draft.addBatch(55, 0), { code: "ERR_EVENT_RANGE" });
});

test("a damaged ledger is refused or at least read as some ledger", () => {
  const ledger = ledgerOf(10);
  ledger.applyEvent(1, event("suspend", [[2, 3]]));
  ledger.applyEvent(2, event("release", [[0, 5]]));
  const bytes = ledger.encode();
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const corrupt = bytes.slice();
    corrupt[bit >> 3]! ^= 1 << (bit & 7);
    try {
      StatusLedger.decode(corrupt).planes();
    } catch (error) {
      assert.ok(error instanceof FormatError, `bit ${bit}: ${error}`);
    }
  }
});

test("a hundred thousand events take seconds, not minutes", () => {
  const ledger = ledgerOf(10_000_000);
  for (let i = 0; i < 100_000; i++) ledger.applyEvent(i, event("revoke", [[i * 100, 1]]));
  assert.equal(ledger.planes()[0].count, 100_000);
  assert.deepEqual(StatusLedger.decode(ledger.encode()).planes(), ledger.planes());
});

const rules: Rules = {
  authority,
  thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 4 },
  ages: new Map(),
  classes: new Map(),
};
const kid = (value: number) => new Uint8Array(32).fill(value);
const manifests: readonly Handling[] = [
  {
    first: 0,
    count: 100,
    stations: [
      { kid: kid(1), first: 0, count: 50 },
      { kid: kid(2), first: 50, count: 50 },
    ],
    releaseKeys: [kid(7), kid(8)],
  },
  { first: 120, count: 10, stations: [{ kid: kid(3), first: 120, count: 5 }], releaseKeys: [kid(8)] },
];

const approvals: readonly [Action, (readonly [number, number])[], unknown][] = [
  ["suspend", [[10, 5]], { by: "trustees", rule: "suspend", threshold: 1, stations: [kid(1)] }],
  [
    "suspend",
    [
      [10, 5],
      [60, 1],
    ],
    { by: "trustees", rule: "suspend", threshold: 1, stations: [] },
  ],
  [
    "suspend",
    [
      [10, 5],
      [120, 1],
    ],
    { by: "trustees", rule: "revoke", threshold: 3, stations: [] },
  ],
  ["suspend", [[95, 10]], { by: "trustees", rule: "revoke", threshold: 3, stations: [] }],
  ["revoke", [[0, 50]], { by: "trustees", rule: "revokeKit", threshold: 2, stations: [] }],
  [
    "revoke",
    [
      [0, 1],
      [49, 1],
    ],
    { by: "trustees", rule: "revokeKit", threshold: 2, stations: [] },
  ],
  ["revoke", [[49, 2]], { by: "trustees", rule: "revoke", threshold: 3, stations: [] }],
  ["revoke", [[126, 1]], { by: "trustees", rule: "revoke", threshold: 3, stations: [] }],
  ["revoke", [[110, 1]], { by: "trustees", rule: "revoke", threshold: 3, stations: [] }],
  ["reinstate", [[0, 1]], { by: "trustees", rule: "reinstate", threshold: 4, stations: [] }],
  ["release", [[0, 100]], { by: "release", keys: [kid(7), kid(8)] }],
  [
    "release",
    [
      [0, 100],
      [120, 10],
    ],
    { by: "release", keys: [kid(8)] },
  ],
];

for (const [action, ranges, expected] of approvals) {
  test(`${action} of ${JSON.stringify(ranges)} needs the right signatures`, () => {
    assert.deepEqual(
      requiredThreshold(event(action, ranges, action === "reinstate" ? [1] : []), manifests, rules),
      expected,
    );
  });
}

test("nobody may release gaps, nothing, or another authority's tokens", () => {
  const refused = (body: EventBody, code: string) =>
    assert.throws(() => requiredThreshold(body, manifests, rules), { code });
  refused(event("release", [[95, 10]]), "ERR_EVENT_RANGE");
  refused(event("release", [[105, 1]]), "ERR_EVENT_RANGE");
  refused(event("release", []), "ERR_EVENT_RANGE");
  refused({ ...event("suspend", [[0, 1]]), authority: kid(9) }, "ERR_AUTHORITY");
  // No ranges at all must not pass for a small event either.
  assert.equal((requiredThreshold(event("revoke", []), manifests, rules) as { rule: string }).rule, "revoke");
});
