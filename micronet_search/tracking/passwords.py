"""Passwords in the addresses of stores, which are never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What stands between "//" and the last "@" of an address. A password that is not quoted as it
# should be can hold both "/" and "@".
_BEFORE_HOST = re.compile(r"//(?:[^\s/:@]*:\S*|[^\s/@]*)@")
# A value that is named as a secret, up to the next "&"; a quote at its end is not part of it.
_NAMED = re.compile(
    r"(?i)((?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access)_?key|odbc_connect)\w*=)"
    r"([^\s&]+?)(?=['\"]?(?:[\s&]|$))"
)


def masked(text: str, address: str = "") -> str:
    """Takes passwords out of a text: before a host, and in parameters such as `token`.

    If the text is about an address, parts of its password are taken out too: an error may name one
    as the host where the password is not quoted as it should be.
    """
    for part in _parts(address):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "***", text)
    return _BEFORE_HOST.sub("//", _NAMED.sub(r"\1***", text))


def _parts(address: str) -> Iterator[str]:
    """Yields the parts of an address's passwords between the characters where it may be cut."""
    pairs = [before.strip("/@").partition(":") for before in _BEFORE_HOST.findall(address)]
    secrets = [password if colon else user for user, colon, password in pairs]
    secrets += [value for _, value in _NAMED.findall(address)]
    for secret in secrets:
        yield from filter(None, re.split(r"[/:@?#]", secret))
