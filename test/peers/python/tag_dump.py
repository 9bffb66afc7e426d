"""Finds what an authority wrote in the memory of an NFC Forum Type 2 tag: TLV, NDEF, then one of the layouts."""
import base64
import re

URI_PREFIXES = {0: "", 3: "http://", 4: "https://"}
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class NotOurs(Exception):
    """Nothing of ours on this tag."""


def read_tag(dump):
    """A dict with `layout` and either `token` (bytes) or `rct_id` and `index`.

    `dump` is a whole tag from page 0 (the capability container stands in page 3), or an NDEF message.
    """
    message = ndef_message(dump) if len(dump) > 16 and dump[12] == 0xE1 else dump
    found = [layout for layout in map(read_record, ndef_records(message)) if layout]
    if len(found) != 1:
        raise NotOurs(f"{len(found)} records of ours on the tag")
    return found[0]


def ndef_message(dump):
    area, at = dump[16 : 16 + 8 * dump[14]], 0
    while at < len(area) and area[at] != 0xFE:
        kind = area[at]
        if kind == 0:
            at += 1
            continue
        length, start = area[at + 1 : at + 2], at + 2
        if length == b"\xff":
            length, start = area[at + 2 : at + 4], at + 4
        if not length or start + int.from_bytes(length, "big") > len(area):
            raise NotOurs("a block leaves the data area")
        at = start + int.from_bytes(length, "big")
        if kind == 3:
            return area[start:at]
    raise NotOurs("no NDEF message")


def ndef_records(message):
    """(type name format, type, payload) of each record."""
    records, at = [], 0
    while at < len(message):
        try:
            flags, type_length = message[at], message[at + 1]
            size = 1 if flags & 0x10 else 4
            length = int.from_bytes(message[at + 2 : at + 2 + size], "big")
            at += 2 + size
            id_length = 0
            if flags & 0x08:
                id_length = message[at]
                at += 1
        except IndexError:
            raise NotOurs("a record is cut short") from None
        end = at + type_length + id_length + length
        first = flags & 0x80 != 0
        if end > len(message) or flags & 0x20 or first != (not records):
            raise NotOurs("not an NDEF message")
        kind = message[at : at + type_length]
        records.append((flags & 7, kind, message[at + type_length + id_length : end]))
        at = end
        if (flags & 0x40 != 0) != (at == len(message)):
            raise NotOurs("the last record is not where the message ends")
    return records


def read_record(record):
    name_format, kind, payload = record
    if name_format == 4 and payload[:1] == b"\x01" and len(payload) == 121:
        return {"layout": "compact", "token": payload}
    if name_format == 4 and payload[:1] == b"\xd2":
        return {"layout": "cose", "token": payload}
    if name_format == 1 and kind == b"U" and payload:
        return read_uri(URI_PREFIXES.get(payload[0], "?") + payload[1:].decode("utf-8", "replace"))
    return None


def read_uri(uri):
    match = re.fullmatch(r"https://[^/#?]+/t#([^#]*)", uri)
    if not match:
        return None
    fields = match[1].split(".")
    if len(fields) == 3:
        if not re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", fields[0]) or not re.fullmatch("0|[1-9][0-9]{0,9}", fields[1]):
            raise NotOurs("a pointer that is none")
        number = 0
        for character in fields[0]:
            number = number * 32 + CROCKFORD.index(character)
        return {"layout": "pointer", "rct_id": number.to_bytes(16, "big"), "index": int(fields[1])}
    if len(fields) > 3:
        raise NotOurs("a link with too many parts")
    token = base64.urlsafe_b64decode(fields[0] + "=" * (-len(fields[0]) % 4))
    if base64.urlsafe_b64encode(token).rstrip(b"=").decode() != fields[0] or len(token) != 121:
        raise NotOurs("a link without a token")
    return {"layout": "link", "token": token}
