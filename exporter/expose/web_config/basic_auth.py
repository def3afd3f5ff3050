"""Basic auth: passwords against bcrypt hashes, and what is already known of them."""

import base64
import binascii
import hmac
import secrets
import sys
from collections.abc import Mapping
from typing import NamedTuple

from exporter.errors import ConfigError

BCRYPT_BYTES = 72
"""bcrypt looks at no more; a longer password is denied, never cut."""
MAX_CACHED_FAILURES = 256
"""Wrong passwords; right ones are as many as there are users."""
UNKNOWN_USER_HASH = "xZ4c8tY9k1mQw7r2UuJfVeGHhLpNsDaB5oEi3yTKvCRgMXzWqPnSO"
"""Salt and digest of no password, for users that there are not."""
BASIC_AUTH_SECTION = "basic_auth_users"
REMEDY = "{python} -m pip install 'bcrypt>=4'"


class Credentials(NamedTuple):
    """What a client says who it is."""

    user: str
    password: bytes


def parse_credentials(header: str) -> Credentials | None:
    """Those in an Authorization header; None where it has none of basic auth."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class PasswordChecker:
    """Knows whose passwords are right. `check` may be called from any thread, and is slow."""

    def __init__(self, users: Mapping[str, str]) -> None:
        """Raises ConfigError where bcrypt is not installed."""
        try:
            import bcrypt
        except ImportError:
            remedy = REMEDY.format(python=sys.executable)
            raise ConfigError(
                f"{BASIC_AUTH_SECTION} needs bcrypt, which is missing: {remedy}"
            ) from None
        self._matches = bcrypt.checkpw
        self.users = users
        # The dearest of the costs, so that a name that is not known answers no sooner than others.
        self.cost = max(int(hashed[4:6]) for hashed in users.values())
        self._nobody = f"$2b${self.cost:02}${UNKNOWN_USER_HASH}"
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._wrong: dict[bytes, None] = {}

    def cache_key(self, given: Credentials) -> bytes:
        """What stands for credentials in memory; nothing can be learned from it."""
        user = given.user.encode()
        message = len(user).to_bytes(4) + user + given.password
        return hmac.digest(self._key, message, "sha256")

    def cached_result(self, mark: bytes) -> bool | None:
        """Whether they are right, if that was found out already."""
        if mark in self._right:
            return True
        return False if mark in self._wrong else None

    def check(self, given: Credentials) -> bool:
        """Whether they are right; takes as long for users that there are not."""
        hashed = self.users.get(given.user)
        if len(given.password) > BCRYPT_BYTES or b"\0" in given.password:
            return False
        matches = self._matches(given.password, (hashed or self._nobody).encode())
        return matches and hashed is not None

    def cache_result(self, mark: bytes, *, right: bool) -> None:
        """Keep an answer of `check`; of the wrong ones, the latest."""
        if right:
            self._right.add(mark)
            return
        self._wrong[mark] = None
        if len(self._wrong) > MAX_CACHED_FAILURES:
            del self._wrong[next(iter(self._wrong))]
