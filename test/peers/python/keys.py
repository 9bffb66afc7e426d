"""Public keys, read strictly: Ed25519 without points of small order, P-256 with low S where signatures are r and s."""
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FIELD = 2**255 - 19
# y coordinates of the points whose order divides 8 (RFC 7748 and RFC 8032 say why they are useless as keys).
SMALL_ORDER_Y = {
    0,
    1,
    FIELD - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}


class NotTrusted(Exception):
    """Something that must be signed, listed or equal is not."""


@dataclass(frozen=True)
class Key:
    public: object
    spki: bytes

    @property
    def kid(self):
        return hashlib.sha256(self.spki).digest()

    @property
    def ed25519(self):
        return isinstance(self.public, Ed25519PublicKey)

    def verifies(self, signature, message, der=False):
        try:
            if self.ed25519:
                self.public.verify(signature, message)
                return True
            if not der:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                if len(signature) != 64 or s > P256_ORDER // 2:
                    return False
                signature = encode_dss_signature(r, s)
            self.public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            return True
        except InvalidSignature:
            return False


def ed25519_from_raw(raw):
    if (int.from_bytes(raw, "little") & (2**255 - 1)) % FIELD in SMALL_ORDER_Y:
        raise NotTrusted("an Ed25519 key of small order")
    public = Ed25519PublicKey.from_public_bytes(raw)
    return Key(public, spki_of(public))


def ecdsa_from_pem(pem):
    return key_of(serialization.load_pem_public_key(pem.encode()))


def key_from_spki(spki):
    key = key_of(serialization.load_der_public_key(spki))
    if key.spki != spki:
        raise NotTrusted("a key in an unusual spelling")
    return key


def key_of(public):
    if isinstance(public, Ed25519PublicKey):
        return ed25519_from_raw(public.public_bytes_raw())
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return Key(public, spki_of(public))
    raise NotTrusted("neither an Ed25519 nor a P-256 key")


def spki_of(public):
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
