"""Keys to sign in with: made, read, and what is wrong with one."""

from __future__ import annotations

import io
import re

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from environments.transports.base import TransportError

COMMENT = "runstead"
LEAST_RSA_BITS = 2048
_PUBLIC = re.compile(r"\s*(ssh-|ecdsa-|sk-|-----BEGIN (RSA )?PUBLIC KEY|---- BEGIN SSH2 PUBLIC)")
_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"


class KeyProblem(TransportError):
    """A private key that cannot be used. `code`: key_unreadable, key_encrypted or key_passphrase."""

    def __init__(self, message: str, code: str, fix: str) -> None:
        super().__init__(message, permanent=True, code=code, fix=fix)


def make_key() -> tuple[str, str]:
    """A new ed25519 key: (private text in OpenSSH's format, public line for ``authorized_keys``)."""
    key = ed25519.Ed25519PrivateKey.generate()
    return _openssh(key), _line(key)


def public_line(text: str, passphrase: str = "") -> str:
    """The public half of a private key, as a line for ``authorized_keys``. Raises KeyProblem."""
    return _line(_load(text, passphrase))


def check_key(text: str, passphrase: str = "") -> None:
    """Raises KeyProblem, which says what is wrong with a private key and what to do, unless it can be used."""
    _load(text, passphrase)


def load_key(text: str, passphrase: str = "") -> paramiko.PKey:
    """The key to sign with. Raises KeyProblem."""
    key = _load(text, passphrase)
    plain = io.StringIO(_openssh(key))
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey.from_private_key(plain)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey.from_private_key(plain)
    return paramiko.Ed25519Key.from_private_key(plain)


_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _load(text: str, passphrase: str) -> _Key:
    text = text.replace("\r\n", "\n").strip() + "\n"
    if _PUBLIC.match(text):
        raise KeyProblem(
            "The key is a public key; signing in needs its private half.",
            "key_unreadable",
            "Give the file without .pub: it begins with -----BEGIN OPENSSH PRIVATE KEY-----.",
        )
    if text.startswith("PuTTY-User-Key-File"):
        raise KeyProblem(
            "The key is in PuTTY's own format.",
            "key_unreadable",
            "In PuTTYgen choose Conversions, Export OpenSSH key, and give that file.",
        )
    secret = passphrase.encode() if passphrase else None
    read = serialization.load_ssh_private_key if text.startswith(_OPENSSH) else serialization.load_pem_private_key
    try:
        try:
            key = read(text.encode(), secret)
        except TypeError as error:
            if secret is not None:  # a passphrase for a key that has none harms nothing
                key = read(text.encode(), None)
            else:
                raise KeyProblem(
                    "The key is encrypted.", "key_encrypted", "Give its passphrase too, or have the studio make a key."
                ) from error
    except (ValueError, UnicodeError, UnsupportedAlgorithm) as error:
        if secret is not None and _is_encrypted(text):
            raise KeyProblem(
                "The passphrase does not open the key.",
                "key_passphrase",
                "Type the passphrase of this key again; `ssh-keygen -y -f FILE` tells whether it fits.",
            ) from error
        raise KeyProblem(
            "The key cannot be read.",
            "key_unreadable",
            "Give the whole file, from -----BEGIN to the last -----: an OpenSSH or PEM private key "
            "(ed25519, ECDSA or RSA).",
        ) from error
    if not isinstance(key, _Key):
        raise KeyProblem(
            "The key is of a kind that is not used any more.",
            "key_unreadable",
            "Make another with `ssh-keygen -t ed25519`, or have the studio make one.",
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < LEAST_RSA_BITS:
        raise KeyProblem(
            f"The RSA key has {key.key_size} bits; servers refuse fewer than {LEAST_RSA_BITS}.",
            "key_unreadable",
            "Make another with `ssh-keygen -t ed25519`, or have the studio make one.",
        )
    return key


def _is_encrypted(text: str) -> bool:
    """Whether reading it without a passphrase fails for want of one."""
    read = serialization.load_ssh_private_key if text.startswith(_OPENSSH) else serialization.load_pem_private_key
    try:
        read(text.encode(), None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return False


def _openssh(key: _Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _line(key: _Key) -> str:
    encoded = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{encoded.decode()} {COMMENT}"
