"""Names of users. A directory of users may hang, so asking for a name never waits for one."""

import pwd
import queue
from collections.abc import Callable


class UserNames:
    """Names by number, as far as they are known; `look_up` finds out the rest.

    `wake` is called when there is something to look up.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.wake: Callable[[], None] = lambda: None

    def name(self, uid: int) -> str:
        """The user's name; the number until `look_up` has found it, or if nobody knows it."""
        known = self._names.get(uid)
        if known is None:
            self._names[uid] = known = str(uid)
            self._wanted.put(uid)
            self.wake()
        return known

    def look_up(self) -> None:
        """Find the names that were asked for; may wait for the directory. For a worker."""
        while not self._wanted.empty():
            uid = self._wanted.get()
            try:
                self._names[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                continue
