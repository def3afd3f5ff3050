"""Names of users. A directory of users may hang, so asking for a name never waits for one."""

import pwd
import queue
import time
from collections.abc import Callable

from exporter.attribute.identity import sanitize

LOOKUP_TIMEOUT_SECONDS = 120.0
"""How long a directory may take to answer; then the number is used in place of the name."""
RETRY_SECONDS = 300.0
"""Between two queries for a user who was not in the directory."""


class UsernameCache:
    """Names by number, as far as they are known; `look_up` finds out the rest.

    `wake` is called when there is something to look up; `now` is a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._names: dict[int, str] = {}
        self._asked: dict[int, float] = {}
        """When the directory was last queried for a user of whom it has given no name."""
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.wake: Callable[[], None] = lambda: None

    def name(self, uid: int) -> str:
        """The user's name; "" until the directory has answered, the number where it has none.

        The number as well where it does not answer in time.
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
        """Find the names that were asked for; may wait for the directory. For a worker."""
        while not self._wanted.empty():
            uid = self._wanted.get()
            try:
                name = sanitize(pwd.getpwuid(uid).pw_name)
            except (KeyError, OverflowError):
                name = ""
            self._names[uid] = name or str(uid)
            if name:
                self._asked.pop(uid, None)
