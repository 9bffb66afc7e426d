import assert from "node:assert/strict";
import { test } from "node:test";
import { FormatError } from "@viafabric/schemas";
import { freshSeed, randomFrom } from "./fixtures.test.ts";
import { newBundles, newTiles, parseTilePath, tileOf, tilePath } from "./tile.ts";

test("a tile's path is the one that the format gives", () => {
  const cases = [
    [{ level: 0, index: 0, width: 256 }, "tile/0/000"],
    [{ level: 0, index: 999, width: 256 }, "tile/0/999"],
    [{ level: 0, index: 1000, width: 256 }, "tile/0/x001/000"],
    [{ level: 1, index: 1_234_067, width: 256 }, "tile/1/x001/x234/067"],
    [{ level: 15, index: 455_667, width: 256 }, "tile/15/x455/667"],
    [{ level: 63, index: 123_456_789, width: 41 }, "tile/63/x123/x456/789.p/41"],
    [{ level: "entries", index: 0, width: 1 }, "tile/entries/000.p/1"],
    [{ level: "entries", index: 1_234_067, width: 8 }, "tile/entries/x001/x234/067.p/8"],
  ] as const;
  for (const [tile, path] of cases) {
    assert.equal(tilePath(tile), path);
    assert.deepEqual(parseTilePath(path), tile);
  }
});

const seed = freshSeed();
test(`whatever parses as a tile's path is its one spelling (seed ${seed})`, () => {
  const random = randomFrom(seed);
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const path = mutate(randomPath(random), random);
    try {
      assert.equal(tilePath(parseTilePath(path)), path);
      accepted++;
    } catch (error) {
      assert.ok(error instanceof FormatError && error.code === "ERR_TILE_PATH", `${path}: ${String(error)}`);
    }
  }
  assert.ok(accepted > 1000, "mutations of good paths are often good");
});

function randomPath(random: (below: number) => number): string {
  const level = random(4) === 0 ? "entries" : random(64);
  const width = random(2) === 0 ? 256 : 1 + random(255);
  return tilePath({ level, index: Math.floor(random(2 ** 20) * 1000 ** random(4)), width });
}

function mutate(path: string, random: (below: number) => number): string {
  const at = random(path.length);
  const letter = "0123456789x/.p"[random(14)]!;
  const [head, tail] = [path.slice(0, at), path.slice(at)];
  return [path, head + letter + tail, head + tail.slice(1), head + letter + tail.slice(1), head][random(5)]!;
}

test("only the spelling with three-digit groups and a width of 1 to 255 parses", () => {
  for (const path of [
    "tile/0/0",
    "tile/0/0000",
    "tile/00/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/0/x000/000",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/01",
    "tile/0/001/000",
    "tile/0/x1/000",
    "tile/0/000/",
    "/tile/0/000",
    "tile/0/x009/x007/x199/x254/x740/992",
    "tile/data/000",
    "tile/0/000.p/",
    "tile/0/000\n",
    "",
  ]) {
    assert.throws(() => parseTilePath(path), { code: "ERR_TILE_PATH" }, path);
  }
});

test("a tile is new exactly when the larger tree has it and the smaller has not", () => {
  const sizes = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000, 131_072];
  for (const oldSize of sizes) {
    const old = new Set(tilesOfTree(oldSize));
    for (const newSize of sizes.filter((size) => size >= oldSize)) {
      const expected = tilesOfTree(newSize).filter((path) => !old.has(path));
      const found = [...newTiles(oldSize, newSize), ...newBundles(oldSize, newSize)].map(tilePath);
      assert.deepEqual(found.sort(), expected.sort(), `${oldSize} to ${newSize}`);
    }
  }
});

function tilesOfTree(size: number): string[] {
  const paths: string[] = [];
  for (const level of ["entries", 0, 1, 2, 3] as const) {
    for (let index = 0; tileOf(size, level, index); index++) paths.push(tilePath(tileOf(size, level, index)!));
  }
  return paths;
}

test("filling a tile starts its parent", () => {
  assert.deepEqual(newTiles(255, 256).map(tilePath), ["tile/0/000", "tile/1/000.p/1"]);
  assert.equal(newTiles(0, 70_000).length, 273 + 1 + 1 + 1 + 1);
  assert.ok(newTiles(0, 70_000).map(tilePath).includes("tile/1/001.p/17"));
});
