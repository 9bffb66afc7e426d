#!/usr/bin/env python3
"""Decodes RVX1 set bodies, snapshots and deltas, and compares them with the vectors.

    decode_rvx1.py VECTORS.json
    decode_rvx1.py FILE.rvx...        checks published snapshots and deltas against the roots in their headers

Prints one JSON object; exit code 0 if everything agrees, 1 if not, 2 for a wrong command line.

Written from the format's description alone, as a check on the implementation that makes these files. Sets are lists of
runs (start, length). Standard library only.
"""
import hashlib
import json
import sys

CHUNK = 131072
NO_CHUNK = hashlib.sha256(b"\0" + bytes(CHUNK // 8)).digest()


class Malformed(Exception):
    """The bytes are not what the format says."""


class Decoder:
    """The range coder and its adaptive contexts."""

    def __init__(self, data, k):
        self.data, self.at = data, 0
        self.range = 0xFFFFFFFF
        self.code = 0
        for _ in range(4):
            self.code = self.code << 8 | self.byte()
        self.p = [32768] * 448
        self.c = [3] * 448
        up = [34079, 49611, 61407, 64881, 65208]
        down = [26870, 29819, 31326, 32113, 32440]
        mantissa = [32768, 33489, 34210, 35652, 38470, 43909, 52691, 61866]
        for base in range(0, 256, 64):
            for j in range(15):
                self.p[base + 1 + j] = up[min(j, 4)]
            for j in range(5):
                self.p[base + 16 + j] = down[j]
        for n in range(32):
            r = max(1, min(7, n - k + 4))
            self.p[256 + 4 * n + 1] = mantissa[r]
            self.p[256 + 4 * n + 2] = self.p[256 + 4 * n + 3] = mantissa[r - 1]
        self.p[400] = 65536 - max(64, min(32768, 65536 >> k))

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def fill(self):
        while self.range < 1 << 24:
            self.range = self.range << 8 & 0xFFFFFFFF
            self.code = (self.code << 8 | self.byte()) & 0xFFFFFFFF

    def bit(self, x):
        p, rate = self.p[x], min(8, (self.c[x] + 1).bit_length())
        self.c[x] = min(255, self.c[x] + 1)
        bound = (self.range >> 16) * p
        if self.code < bound:
            self.p[x] = p + (65536 - p >> rate)
            self.range = bound
            bit = 0
        else:
            self.p[x] = p - (p >> rate)
            self.code -= bound
            self.range -= bound
            bit = 1
        self.fill()
        return bit

    def raw(self, width):
        value = 0
        while width > 0:
            t = min(8, width)
            self.range >>= t
            group = self.code // self.range
            if group >= 1 << t:
                raise Malformed("a raw group overflows")
            self.code -= group * self.range
            self.fill()
            value = value << t | group
            width -= t
        return value


def decode_body(body, universe, count):
    """The runs of a set of `count` indices below `universe`."""
    if count == 0:
        if body:
            raise Malformed("an empty set with a body")
        return []
    if not body or body[0] > 31 or count > universe:
        raise Malformed("no such set")
    k = body[0]
    coder = Decoder(body[1:], k)
    runs, position, left, context, long = [], 0, count, 0, 0
    while left > 0:
        n = gap_class(coder, k, 64 * context)
        mantissa, node = 1, 1
        for _ in range(min(2, n)):
            bit = coder.bit(256 + 4 * n + node)
            node = 2 * node + bit
            mantissa = 2 * mantissa + bit
        rest = max(0, n - 2)
        gap = mantissa << rest | coder.raw(rest)
        start = position + gap - 1
        long = coder.bit(400 + long)
        length = 1 + run_length(coder) if long else 1
        if start + length > universe or length > left:
            raise Malformed("a run leaves the set")
        runs.append((start, length))
        left -= length
        position = start + length + 1
        context = 1 if long else 2 if n < k - 4 else 3 if n < k - 2 else 0
    return runs


def gap_class(coder, k, base):
    if coder.bit(base):
        if k == 0:
            raise Malformed("a class below 0")
        n = k - 1
        while n > 0 and coder.bit(base + 16 + (k - 1 - n)):
            n -= 1
        return n
    n = k
    while coder.bit(base + 1 + min(n - k, 14)):
        n += 1
        if n > 31:
            raise Malformed("a class above 31")
    return n


def run_length(coder):
    m = 0
    while coder.bit(408 + m):
        m += 1
        if m > 31:
            raise Malformed("a length class above 31")
    return 1 << m | coder.raw(m)


def decode_file(data):
    """A snapshot or delta: its header as a dict, with `add` and `del` as runs."""
    if len(data) < 68 or data[:4] != b"RVX1" or data[4] > 1 or data[5] > 2 or data[6:8] != b"\x11\0":
        raise Malformed("not an RVX1 file")
    number = lambda at, size=4: int.from_bytes(data[at : at + size], "big")
    header = {"kind": data[4], "plane": data[5], "from": number(8), "to": number(12), "n": number(16, 8)}
    adds, dels, length = number(24), number(28), number(32)
    if header["from"] >= header["to"] or adds + dels > header["n"] or 68 + length > len(data):
        raise Malformed("an impossible header")
    if header["kind"] == 0 and (header["from"] or dels):
        raise Malformed("a snapshot with a past")
    header["root"] = data[36:68].hex()
    header["add"] = decode_body(data[68 : 68 + length], header["n"], adds)
    header["del"] = decode_body(data[68 + length :], header["n"], dels)
    return header


def set_leaves(runs, universe):
    """The leaf hash of every chunk of the bitmap."""
    chunks = {}
    for start, length in runs:
        at, end = start, start + length
        while at < end:
            chunk = at // CHUNK
            stop = min(end, (chunk + 1) * CHUNK)
            bits = ((1 << (stop - at)) - 1) << (at % CHUNK)
            chunks[chunk] = chunks.get(chunk, 0) | bits
            at = stop
    leaf = lambda bits: hashlib.sha256(b"\0" + bits.to_bytes(CHUNK // 8, "little")).digest()
    return [leaf(chunks[c]) if c in chunks else NO_CHUNK for c in range((universe + CHUNK - 1) // CHUNK)]


def merkle_root(leaves):
    """RFC 6962: an odd node rises as it is."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = [hashlib.sha256(b"\1" + p[0] + p[1]).digest() if len(p) == 2 else p[0] for p in pairs]
    return leaves[0]


def set_root(runs, universe):
    return merkle_root(set_leaves(runs, universe)).hex()


def to_runs(indices):
    runs = []
    for i in sorted(indices):
        if runs and runs[-1][0] + runs[-1][1] == i:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((i, 1))
    return runs


def members(runs):
    return [i for start, length in runs for i in range(start, start + length)]


def lcg(universe, seed, threshold):
    out, x = [], seed
    for i in range(universe):
        x = (1664525 * x + 1013904223) % 2**32
        if x < threshold:
            out.append(i)
    return out


def check_vectors(vectors):
    """Every disagreement as a sentence."""
    wrong = []

    def same(what, found, expected):
        if found != expected:
            wrong.append(f"{what}: {found!r} is not {expected!r}")

    for v in vectors["bodies"]:
        runs = decode_body(bytes.fromhex(v["body"]), v["universe"], v["count"])
        same(v["name"] + " runs", len(runs), v["runs"])
        same(v["name"] + " root", set_root(runs, v["universe"]), v["setRoot"])
        ends = members(runs[:4]), members(runs[-4:])
        same(v["name"] + " first", ends[0][: len(v["first"])], v["first"])
        same(v["name"] + " last", ends[1][-len(v["last"]) :] if v["last"] else [], v["last"])
    container = vectors["container"]
    same("the chunk without members", NO_CHUNK.hex(), container["zeroChunkLeaf"])
    before = lcg(300000, 3, 4294967)
    same("snapshot header", container["snapshot"]["header"][72:], set_root(to_runs(before), 300000))
    delta = decode_file(bytes.fromhex(container["delta"]["hex"]))
    after = to_runs(set(before) - set(members(delta["del"])) | set(members(delta["add"])))
    same("after the delta", sum(length for _, length in after), container["after"]["count"])
    same("leaves after the delta", [x.hex() for x in set_leaves(after, delta["n"])], container["after"]["leaves"])
    same("root after the delta", set_root(after, delta["n"]), container["after"]["root"])
    same("root in the delta", delta["root"], container["after"]["root"])
    chunk = decode_body(bytes.fromhex(container["chunk1"]["body"]), CHUNK, container["chunk1"]["count"])
    same("chunk 1", set_leaves(chunk, CHUNK)[0].hex(), container["after"]["leaves"][1])
    return wrong


def check_files(paths):
    """Files of an authority: each snapshot must have the root in its own header."""
    wrong = []
    for path in paths:
        with open(path, "rb") as file:
            header = decode_file(file.read())
        if header["kind"] == 0 and set_root(header["add"], header["n"]) != header["root"]:
            wrong.append(f"{path}: another root")
    return wrong


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if arguments[0].endswith(".json"):
            with open(arguments[0], encoding="utf-8") as file:
                vectors = json.load(file)
            wrong, checked = check_vectors(vectors), len(vectors["bodies"]) + 3
        else:
            wrong, checked = check_files(arguments), len(arguments)
    except (Malformed, OSError, ValueError) as error:
        wrong, checked = [str(error)], 0
    print(json.dumps({"ok": not wrong, "checked": checked, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
