"""Cache of user names by uid. Lookups run in a worker, since NSS (such as LDAP) may hang."""

import pwd
import queue
import time
from collections.abc import Callable

from exporter.attribute.identity import sanitize

LOOKUP_TIMEOUT_SECONDS = 120.0
"""Timeout of a lookup; after that the uid is used in place of the name."""
RETRY_SECONDS = 300.0
"""Interval between lookups of a uid without a name."""


class UsernameCache:
    """User names by uid; `look_up` resolves those that were requested.

    `wake` is called when a lookup is pending; `now` is a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._names: dict[int, str] = {}
        self._asked: dict[int, float] = {}
        """Time of the last lookup of each uid that has not returned a name."""
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.wake: Callable[[], None] = lambda: None

    def name(self, uid: int) -> str:
        """The user's name, without blocking; "" while its lookup is pending.

        The uid as text if the user has no name, or the lookup timed out.
        """
        known, asked, now = self._names.get(uid), self._asked.get(uid), self._now()
        if known is None and asked is not None:
            return "" if now - asked < LOOKUP_TIMEOUT_SECONDS else str(uid)
        if known is None or (asked is not None and now - asked >= RETRY_SECONDS):
            self._asked[uid] = now
            self._wanted.put(uid)
            self.wake()
        return known or ""

    def look_up(self) -> None:
        """Resolve the requested names; blocks. Call it from a worker."""
        while not self._wanted.empty():
            uid = self._wanted.get()
            try:
                name = sanitize(pwd.getpwuid(uid).pw_name)
            except (KeyError, OverflowError):
                name = ""
            self._names[uid] = name or str(uid)
            if name:
                self._asked.pop(uid, None)
