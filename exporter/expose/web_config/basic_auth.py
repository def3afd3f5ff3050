"""HTTP basic authentication with bcrypt hashes, and a cache of results."""

import base64
import binascii
import hmac
import secrets
import sys
from collections.abc import Mapping
from typing import NamedTuple

from exporter.errors import ConfigError

BCRYPT_BYTES = 72
"""Length limit of bcrypt in bytes; a longer password is rejected, not truncated."""
MAX_CACHED_FAILURES = 256
"""Cached wrong passwords; correct ones are limited by the number of users."""
UNKNOWN_USER_HASH = "xZ4c8tY9k1mQw7r2UuJfVeGHhLpNsDaB5oEi3yTKvCRgMXzWqPnSO"
"""Salt and digest that match no password, for unknown users."""
BASIC_AUTH_SECTION = "basic_auth_users"
REMEDY = "{python} -m pip install 'bcrypt>=4'"


class Credentials(NamedTuple):
    """User name and password sent by a client."""

    user: str
    password: bytes


def parse_credentials(header: str) -> Credentials | None:
    """Parse an Authorization header; returns None if it is not basic auth."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class PasswordChecker:
    """Checks passwords. `check` is slow and may be called from any thread."""

    def __init__(self, users: Mapping[str, str]) -> None:
        """Raises ConfigError if bcrypt is not installed."""
        try:
            import bcrypt
        except ImportError:
            remedy = REMEDY.format(python=sys.executable)
            raise ConfigError(
                f"{BASIC_AUTH_SECTION} requires bcrypt, which is not installed: {remedy}"
            ) from None
        self._matches = bcrypt.checkpw
        self.users = users
        # The highest cost, so that unknown user names cannot be detected by a faster response.
        self.cost = max(int(hashed[4:6]) for hashed in users.values())
        self._unknown_user_hash = f"$2b${self.cost:02}${UNKNOWN_USER_HASH}"
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._wrong: dict[bytes, None] = {}

    def cache_key(self, credentials: Credentials) -> bytes:
        """Return the cache key of credentials, a keyed digest that does not reveal them."""
        user = credentials.user.encode()
        message = len(user).to_bytes(4) + user + credentials.password
        return hmac.digest(self._key, message, "sha256")

    def cached_result(self, key: bytes) -> bool | None:
        """Return the cached result of `check`; None if there is none."""
        if key in self._right:
            return True
        return False if key in self._wrong else None

    def check(self, credentials: Credentials) -> bool:
        """Check credentials; takes as long for unknown users."""
        hashed = self.users.get(credentials.user)
        if len(credentials.password) > BCRYPT_BYTES or b"\0" in credentials.password:
            return False
        matches = self._matches(credentials.password, (hashed or self._unknown_user_hash).encode())
        return matches and hashed is not None

    def cache_result(self, key: bytes, *, right: bool) -> None:
        """Cache a result of `check`; of failures, only the latest."""
        if right:
            self._right.add(key)
            return
        self._wrong[key] = None
        if len(self._wrong) > MAX_CACHED_FAILURES:
            del self._wrong[next(iter(self._wrong))]
