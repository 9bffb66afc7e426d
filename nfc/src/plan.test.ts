import assert from "node:assert/strict";
import test from "node:test";
import { formatLink, formatRecord, messageOfDump } from "./layout.ts";
import { memoryOfDump, type PageWrite, planLock, planWrite, READ_PAGES_MAX, type WritePlan } from "./plan.ts";
import { isLocked, NTAG213, NTAG215, NTAG216, TAG_MODELS, type TagModel } from "./tag-model.ts";
import { blankDump, bytes } from "./testing.test.ts";

const COMPACT = formatRecord(new Uint8Array([1, ...bytes(120, 7)]));
const OTHER = formatRecord(new Uint8Array([1, ...bytes(120, 8)]));
const LINK = formatLink("tap.example.org", new Uint8Array([1, ...bytes(120, 7)]), bytes(16, 1));
const LONG = formatRecord(new Uint8Array([0xd2, ...bytes(300, 7)]));

function plan(model: TagModel, dump: Uint8Array, message: Uint8Array, overwrite = false): WritePlan {
  return planWrite(memoryOfDump(model, dump), message, { overwrite });
}

function mustWrite(planned: WritePlan) {
  assert.equal(planned.kind, "write");
  return planned as Extract<WritePlan, { kind: "write" }>;
}

function apply(dump: Uint8Array, writes: readonly PageWrite[]): Uint8Array {
  const out = dump.slice();
  for (const { page, bytes: content } of writes) out.set(content, page * 4);
  return out;
}

/** What a phone shows: the message, or nothing. */
function visible(dump: Uint8Array): Uint8Array | undefined {
  try {
    return messageOfDump(dump);
  } catch {
    return undefined;
  }
}

for (const [model, message] of [
  [NTAG213, COMPACT],
  [NTAG215, LINK],
  [NTAG215, LONG],
  [NTAG216, LONG],
] as const) {
  test(`${model.name}: ${message.length} bytes appear whole at the commit, and not a page earlier`, () => {
    const dump = blankDump(model);
    const planned = mustWrite(plan(model, dump, message));
    assert.equal(planned.pages[0]?.page, 4, "page 4 is emptied first");
    for (let done = 0; done <= planned.pages.length; done++) {
      const state = apply(dump, planned.pages.slice(0, done));
      assert.equal(visible(state), undefined, `after ${done} writes`);
      const next = planned.pages[done] ?? planned.commit;
      // Half of a page write: the first two bytes.
      const half = apply(state, [
        {
          page: next.page,
          bytes: new Uint8Array([...next.bytes.slice(0, 2), ...state.slice(next.page * 4 + 2, next.page * 4 + 4)]),
        },
      ]);
      assert.ok(
        visible(half) === undefined || (done === planned.pages.length && visible(half)?.length === message.length),
      );
    }
    const written = apply(dump, [...planned.pages, planned.commit]);
    assert.deepEqual(visible(written), message);
    assert.equal(plan(model, written, message).kind, "written");
    const covered = planned.readBack.reduce((sum, block) => sum + block.count, 0);
    assert.equal(covered, planned.image.bytes.length / 4 - 1);
    assert.ok(planned.readBack.every((block) => block.count <= READ_PAGES_MAX));
  });
}

test("a torn write goes on where it stopped: pages that are right already are skipped", () => {
  const dump = blankDump(NTAG213);
  const first = mustWrite(plan(NTAG213, dump, COMPACT));
  const torn = apply(dump, first.pages.slice(0, 20));
  const second = mustWrite(plan(NTAG213, torn, COMPACT));
  assert.equal(second.pages.length, first.pages.length - 20);
  const all = mustWrite(plan(NTAG213, apply(dump, first.pages), COMPACT));
  assert.deepEqual(all.pages, [], "only the commit is left");
});

test("another message is refused unless overwriting is allowed, and then hidden before the first change", () => {
  const dump = blankDump(NTAG213);
  const other = mustWrite(plan(NTAG213, dump, OTHER));
  const holding = apply(dump, [...other.pages, other.commit]);
  assert.deepEqual(visible(holding), OTHER);
  const refused = plan(NTAG213, holding, COMPACT);
  assert.equal(refused.kind === "refused" && refused.code, "ERR_TAG_FOREIGN");
  const planned = mustWrite(plan(NTAG213, holding, COMPACT, true));
  for (let done = 1; done <= planned.pages.length; done++) {
    assert.equal(visible(apply(holding, planned.pages.slice(0, done))), undefined);
  }
  assert.deepEqual(visible(apply(holding, [...planned.pages, planned.commit])), COMPACT);
});

test("refusals, each with its code", () => {
  const changed = (model: TagModel, at: number, content: readonly number[]) => {
    const dump = blankDump(model);
    dump.set(content, at);
    return dump;
  };
  const code = (model: TagModel, dump: Uint8Array, message = COMPACT) => {
    const planned = plan(model, dump, message);
    return planned.kind === "refused" ? planned.code : planned.kind;
  };
  assert.equal(code(NTAG213, blankDump(NTAG213), LINK), "ERR_TAG_FULL");
  assert.equal(code(NTAG213, changed(NTAG213, 12, [0, 0, 0, 0])), "ERR_TAG_TYPE");
  assert.equal(code(NTAG213, changed(NTAG213, 15, [0x0f])), "ERR_TAG_LOCKED");
  assert.equal(code(NTAG213, changed(NTAG213, 10, [0x10])), "ERR_TAG_LOCKED", "page 4 by its static bit");
  assert.equal(code(NTAG213, changed(NTAG213, 11, [0x80])), "ERR_TAG_LOCKED", "page 15 by its static bit");
  assert.equal(code(NTAG213, changed(NTAG213, 0x28 * 4, [0x01])), "ERR_TAG_LOCKED", "pages 16 and 17");
  assert.equal(code(NTAG213, changed(NTAG213, 0x28 * 4, [0x00, 0x08])), "write", "pages 38 and 39 are not needed");
  assert.equal(code(NTAG213, changed(NTAG213, 0x29 * 4 + 3, [0x04])), "ERR_TAG_PROTECTED");
  assert.equal(code(NTAG213, changed(NTAG213, 0x29 * 4 + 3, [0x25])), "ERR_TAG_PROTECTED", "the last page");
  assert.equal(code(NTAG213, changed(NTAG213, 0x29 * 4 + 3, [0x26])), "write", "behind the last page");
  assert.equal(code(NTAG213, changed(NTAG213, 16, [0x03, 0xf0, 1, 2])), "ERR_TAG_UNREADABLE");
});

test("locking covers every user page and the capability container, static bytes last", () => {
  for (const model of TAG_MODELS) {
    const dump = blankDump(model);
    const writes = planLock(memoryOfDump(model, dump));
    assert.equal(writes.at(-1)?.page, 2);
    const locked = apply(dump, writes);
    const locks = { static: locked.subarray(8, 12), dynamic: locked.subarray(model.lockPage * 4) };
    for (let page = 4; page <= model.lastUserPage; page++) assert.ok(isLocked(model, page, locks), `page ${page}`);
    assert.equal(plan(model, locked, COMPACT).kind, "refused");
  }
});
