"""What an authority's trustees signed: root, targets and batches metadata (TUF), read with a JSON parser and Ed25519.

No expiry is judged here: the question is who signed, not whether it is still fresh.
"""
import hashlib
import json
import re
from pathlib import Path

from keys import Key, NotTrusted, ecdsa_from_pem, ed25519_from_raw


def canonical(value):
    """Canonical JSON as in TUF: sorted members, no white space, only quote and backslash escaped."""
    if isinstance(value, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(value[k]) for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    raise NotTrusted("metadata holds a value that canonical JSON has no form for")


def load_trust(public, pinned=None):
    """Follows root, targets and batches in `public`; returns authority, keys.cbor and head.cbor as bytes."""
    public = Path(public)
    first = read_json(root_path(public, 1))
    authority = hashlib.sha256(canonical(first["signed"]).encode()).digest()
    if pinned is not None and authority != pinned:
        raise NotTrusted(f"root 1 belongs to authority {authority.hex()}")
    root = latest_root(public, first)
    keys = root["keys"]
    targets = latest(public, "targets")
    require_threshold(targets, keys, root["roles"]["targets"])
    delegations = targets["signed"]["delegations"]
    role = next(role for role in delegations["roles"] if role["name"] == "batches")
    if role["paths"] != ["batches/head.cbor"] or role["terminating"] is not True:
        raise NotTrusted("batches is delegated in another way")
    batches = latest(public, "batches")
    require_threshold(batches, delegations["keys"], role)
    return {
        "authority": authority,
        "keys": target(public, targets, "trust/keys.cbor"),
        "head": target(public, batches, "batches/head.cbor"),
        "versions": {
            "root": root["version"],
            "targets": targets["signed"]["version"],
            "batches": batches["signed"]["version"],
        },
    }


def root_path(public, version):
    for folder in (public / "root", public / "tuf" / "metadata"):
        path = folder / f"{version}.root.json"
        if path.exists():
            return path
    return None


def latest_root(public, first):
    """Each root must be signed by its own threshold and by that of the root before it."""
    signed = first["signed"]
    require_threshold(first, signed["keys"], signed["roles"]["root"])
    while (path := root_path(public, signed["version"] + 1)) is not None:
        after = read_json(path)
        require_threshold(after, signed["keys"], signed["roles"]["root"])
        require_threshold(after, after["signed"]["keys"], after["signed"]["roles"]["root"])
        if after["signed"]["version"] != signed["version"] + 1:
            raise NotTrusted(f"{path.name} has another version inside")
        signed = after["signed"]
    return signed


def latest(public, role):
    versions = {}
    for path in (public / "tuf" / "metadata").glob(f"*.{role}.json"):
        if match := re.fullmatch(rf"([1-9][0-9]*)\.{role}\.json", path.name):
            versions[int(match[1])] = path
    if not versions:
        raise NotTrusted(f"no {role} metadata")
    newest = max(versions)
    metadata = read_json(versions[newest])
    if metadata["signed"]["_type"] != "targets" or metadata["signed"]["version"] != newest:
        raise NotTrusted(f"{versions[newest].name} has another type or version inside")
    return metadata


def require_threshold(metadata, keys, role):
    """Counts distinct keys whose id is the hash of the key."""
    message = canonical(metadata["signed"]).encode()
    signers = set()
    for signature in metadata["signatures"]:
        keyid = signature["keyid"]
        if keyid not in role["keyids"] or keyid not in keys:
            continue
        if hashlib.sha256(canonical(keys[keyid]).encode()).hexdigest() != keyid:
            raise NotTrusted("a key id that is not the hash of its key")
        if tuf_key(keys[keyid]).verifies(bytes.fromhex(signature["sig"]), message, der=True):
            signers.add(keyid)
    if role["threshold"] < 1 or len(signers) < role["threshold"]:
        raise NotTrusted(f"{len(signers)} of {role['threshold']} signatures on version {metadata['signed']['version']}")


def tuf_key(key) -> Key:
    public = key["keyval"]["public"]
    if (key["keytype"], key["scheme"]) == ("ed25519", "ed25519"):
        return ed25519_from_raw(bytes.fromhex(public))
    if (key["keytype"], key["scheme"]) == ("ecdsa", "ecdsa-sha2-nistp256"):
        return ecdsa_from_pem(public)
    raise NotTrusted("a key of an unknown type")


def target(public, metadata, name):
    """A target file under its consistent-snapshot name, with the length and hash that were signed."""
    info = metadata["signed"]["targets"].get(name)
    if info is None:
        raise NotTrusted(f"{name} is not a target")
    digest = info["hashes"]["sha256"]
    folder, _, file = name.rpartition("/")
    data = (public / "tuf" / "targets" / folder / f"{digest}.{file}").read_bytes()
    if len(data) != info["length"] or hashlib.sha256(data).hexdigest() != digest:
        raise NotTrusted(f"{name} is not the file that was signed")
    return data


def read_json(path):
    if path is None:
        raise NotTrusted("root metadata is missing")
    return json.loads(path.read_bytes())
