import assert from "node:assert/strict";
import { test } from "node:test";
import { auditAll } from "./audit-all.ts";
import { fetchFrom, TestAuthority } from "./fixtures.test.ts";
import { htmlReport } from "./html-report.ts";
import { plot } from "./plot.ts";

test("the report states the verdict, draws its plots and fetches nothing", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const report = await auditAll(fetchFrom(files), { pinned: { file: authority.root }, files: [...files.keys()] });
  const html = htmlReport(report, "<script>alert(1)</script>", 1_800_000_000);
  assert.match(html, /Verified: all [\d,]+ entries/);
  assert.equal(html.match(/<svg /g)?.length, 4);
  assert.match(html, /&lt;script&gt;/);
  assert.doesNotMatch(html, /<script|<link|<img|src=|href=|url\(/);
  assert.match(html, /Content-Security-Policy[^>]*default-src 'none'/);
});

test("findings stand in the report, with what they quote escaped", async () => {
  const authority = await TestAuthority.active();
  const files = await authority.publish();
  const report = await auditAll(fetchFrom(files), { pinned: { file: authority.root } });
  const finding = { entry: 7, code: "ERR_LOG_RULE", message: "a <b>bold</b> & 'quoted' name" } as const;
  const refused = { ...report, verdict: "refused", findings: [finding], findingsTotal: 30 } as const;
  const html = htmlReport(refused, "somewhere", 1_800_000_000);
  assert.match(html, /Refused: 30 findings/);
  assert.match(html, /a &lt;b&gt;bold&lt;\/b&gt; &amp; &#39;quoted&#39; name/);
  assert.match(html, /and 29 more/);
});

test("a plot of nothing is nothing, of one point a point, and no number is broken", () => {
  const of = (points: readonly (readonly [number, number])[], bars = false) => {
    return plot({ title: "t", x: "x", lines: [{ name: "n", points }], bars });
  };
  assert.equal(of([]), "");
  assert.match(of([[3, 0]]), /<circle/);
  for (const bars of [false, true]) {
    const many = Array.from({ length: 400 }, (_, i) => [i, i % 7] as const);
    for (const points of [
      [[0, 0]],
      [[5, 1e9]],
      [
        [0, 1],
        [1e9, 2],
      ],
      many,
    ] as const) {
      const svg = of(points, bars);
      assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
    }
  }
});
