#!/usr/bin/env python3
"""Tells whether the token on a tag is one that an authority's trustees approved.

    verify_token.py DUMP PUBLIC [--authority HEX] [--negative-control]

DUMP is the memory of the tag (or an NDEF message), PUBLIC the authority's published folder. Prints one JSON object; exit
code 0 for yes, 1 for no, 2 for a wrong command line. Written from the formats' description alone.
"""
import argparse
import hashlib
import json
import sys
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keys import NotTrusted, key_from_spki
from tag_dump import NotOurs, read_tag
from trust import load_trust

LEAF_BYTES = 73
SEALED_BYTES = 112
CHUNK = 131072
ALGORITHMS = {True: -19, False: -9}
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def encode(value):
    """Deterministic CBOR (RFC 8949 section 4.2): map keys in the order of their encodings."""
    return cbor2.dumps(ordered(value))


def ordered(value):
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value


def decode(data):
    """CBOR in its one spelling, or nothing."""
    value = cbor2.loads(data)
    if encode(value) != data:
        raise NotTrusted("CBOR in another than the deterministic spelling")
    return value


def merkle_root(entries):
    """RFC 6962 over entries."""
    level = [sha256(b"\0", entry) for entry in entries]
    if not level:
        return sha256(b"")
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [sha256(b"\1", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0]


def require(condition, reason):
    if not condition:
        raise NotTrusted(reason)


class Authority:
    """What an authority published, checked from the first root down to every token leaf that is looked at."""

    def __init__(self, public, pinned=None):
        self.public = Path(public)
        trust = load_trust(self.public, pinned)
        self.id = trust["authority"]
        self.versions = trust["versions"]
        # Entries by batch, once checked: the negative control asks a thousand times.
        self.leaves = {}
        self.keys = {entry[1]: entry for entry in decode(trust["keys"])}
        self.manifests = self.approved_manifests(decode(trust["head"]))

    def approved_manifests(self, head):
        """Every manifest under the head; the head's root is over their hashes."""
        require(sorted(head) == list(range(1, 9)) and head[1] == 1, "not a head of version 1")
        require(head[2] == self.id, "the head is of another authority")
        files = [(self.public / "batch" / str(seq) / "manifest.cbor").read_bytes() for seq in range(head[3])]
        require(merkle_root([sha256(file) for file in files]) == head[4], "a manifest is not under the signed head")
        return [self.manifest(seq, file) for seq, file in enumerate(files)]

    def manifest(self, seq, file):
        m = decode(file)
        require(sorted(m) == list(range(1, 24)) and m[1] == 1, f"batch {seq} has no manifest of version 1")
        require(m[2] == self.id and m[3] == seq, f"the manifest of batch {seq} is another's")
        return m

    def manifest_of(self, index):
        for m in self.manifests:
            if m[4] <= index < m[4] + m[5]:
                return m
        raise NotTrusted(f"no approved batch holds index {index}")

    def issuer(self, m):
        entry = self.keys.get(m[7])
        require(entry is not None and entry[3] == "issuer", "the manifest's issuer key is not listed as one")
        require(entry[5] <= m[14] < entry[6], "the issuer key was not valid when the batch begins")
        key = key_from_spki(entry[2])
        require(key.kid == m[7], "a key id that is not the hash of its key")
        return key

    def leaf(self, m, index):
        """The token's entry in the log, as its manifest commits to it."""
        if m[3] not in self.leaves:
            data = (self.public / "batch" / str(m[3]) / "leaves.bin").read_bytes()
            require(len(data) == LEAF_BYTES * m[5], "leaves.bin has another length than its batch")
            entries = [data[at : at + LEAF_BYTES] for at in range(0, len(data), LEAF_BYTES)]
            require(merkle_root(entries) == m[6], "leaves.bin is not what the manifest commits to")
            self.leaves[m[3]] = entries
        return self.leaves[m[3]][index - m[4]]

    def sealed_token(self, rct_id, index):
        """A compact token from the batch bundle, for a tag that only points there."""
        m = self.manifest_of(index)
        at = SEALED_BYTES * (index - m[4])
        sealed = (self.public / "batch" / str(m[3]) / "tokens.bin").read_bytes()[at : at + SEALED_BYTES]
        material = HKDF(hashes.SHA256(), 44, salt=self.id, info=b"rct/bundle/v1").derive(rct_id)
        try:
            opened = AESGCM(material[:32]).decrypt(material[32:], sealed, index.to_bytes(4, "big"))
        except (InvalidTag, ValueError):
            raise NotTrusted("tokens.bin holds no token of this id and index") from None
        return b"\1" + self.id[:4] + rct_id + opened[:32] + index.to_bytes(4, "big") + opened[32:]


def payload_of(m, rct_id, subject, index):
    """The claims that were signed: what the manifest says about all tokens, and three that are the token's own."""
    pointer = {"idx": index % CHUNK, "uri": m[23] + str(index // CHUNK)}
    return encode(
        {
            1: m[8],
            2: subject,
            4: m[16],
            5: m[14],
            7: rct_id,
            65535: {"status_list": pointer},
            -70001: index,
            -70002: m[3],
            -70003: m[9],
            -70004: m[10],
            -70005: m[11],
            -70006: m[12],
            -70007: m[13],
            -70008: m[15],
        }
    )


def did_key(raw):
    number = int.from_bytes(b"\xed\x01" + raw, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "did:key:z" + text


def rct_id_text(rct_id):
    number, text = int.from_bytes(rct_id, "big"), ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        text = CROCKFORD[digit] + text
    return text


def verify(authority, token):
    """What the token says, if everything about it is as approved."""
    if token[:1] == b"\x01":
        return verify_compact(authority, token)
    return verify_cose(authority, token)


def verify_compact(authority, token):
    require(len(token) == 121, "a compact token has 121 bytes")
    require(token[1:5] == authority.id[:4], "the token is of another authority")
    rct_id, subject_key, signature = token[5:21], token[21:53], token[57:]
    index = int.from_bytes(token[53:57], "big")
    m = authority.manifest_of(index)
    payload = payload_of(m, rct_id, did_key(subject_key), index)
    return verify_signed(authority, m, payload, signature)


def verify_cose(authority, token):
    cose = cbor2.loads(token)
    require(isinstance(cose, cbor2.CBORTag) and cose.tag == 18 and len(cose.value) == 4, "not a COSE_Sign1")
    protected, unprotected, payload, signature = cose.value
    claims = decode(payload)
    m = authority.manifest_of(claims[-70001])
    header = protected_header(authority.issuer(m))
    again = cbor2.dumps(cbor2.CBORTag(18, [header, {4: m[7]}, payload, signature]))
    require(again == token, "the token's headers are not those of its issuer key")
    expected = payload_of(m, claims[7], claims[2], claims[-70001])
    confirmed = encode({**decode(expected), 8: claims[8]}) if 8 in claims else expected
    require(payload == confirmed, "the token says something else than its batch")
    return verify_signed(authority, m, payload, signature)


def protected_header(key):
    return encode({1: ALGORITHMS[key.ed25519], 16: "application/rct+cwt"})


def verify_signed(authority, m, payload, signature):
    claims = decode(payload)
    rct_id, index = claims[7], claims[-70001]
    leaf = authority.leaf(m, index)
    require(leaf[:41] == b"\1" + index.to_bytes(8, "big") + sha256(rct_id), "the leaf at this index is another token's")
    require(leaf[41:] == sha256(payload), "the leaf at this index has another payload")
    key = authority.issuer(m)
    message = encode(["Signature1", protected_header(key), b"", payload])
    require(key.verifies(signature, message), "the issuer's signature does not verify")
    return {
        "authority": authority.id.hex(),
        "rct_id": rct_id_text(rct_id),
        "subject": claims[2],
        "index": index,
        "batch": m[3],
        "profile": m[9],
        "issuer": key.kid.hex(),
        "metadata": authority.versions,
    }


def negative_control(authority, token):
    """How many of the token's neighbours at a distance of one bit are accepted. There must be none."""
    accepted = 0
    for bit in range(8 * len(token)):
        neighbour = bytearray(token)
        neighbour[bit // 8] ^= 1 << bit % 8
        try:
            verify(authority, bytes(neighbour))
            accepted += 1
        except EXPECTED:
            continue
    return {"tried": 8 * len(token), "accepted": accepted}


# What bytes from outside can cause: a check that fails, or files whose values have another shape than they should.
REFUSED = (NotTrusted, NotOurs, cbor2.CBORDecodeError, UnsupportedAlgorithm)
MISSHAPEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration)
EXPECTED = (*REFUSED, *MISSHAPEN, OSError)


def check(arguments):
    authority = Authority(arguments.public, arguments.authority)
    tag = read_tag(Path(arguments.dump).read_bytes())
    token = tag["token"] if "token" in tag else authority.sealed_token(tag["rct_id"], tag["index"])
    result = {"ok": True, "layout": tag["layout"], **verify(authority, token)}
    if arguments.negative_control:
        result["negative_control"] = negative_control(authority, token)
        require(result["negative_control"]["accepted"] == 0, "a token with a flipped bit was accepted")
    return result


def authority_id(text):
    data = bytes.fromhex(text)
    if len(data) != 32:
        raise ValueError("an authority has 32 bytes")
    return data


def main():
    parser = argparse.ArgumentParser(description="Is the token on this tag one that the trustees approved?")
    parser.add_argument("dump", help="memory of the tag, or its NDEF message")
    parser.add_argument("public", help="the authority's published folder")
    parser.add_argument("--authority", type=authority_id, help="the authority expected, 64 hex digits")
    parser.add_argument("--negative-control", action="store_true", help="also refuse every one-bit neighbour")
    try:
        result = check(parser.parse_args())
    except EXPECTED as error:
        result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
