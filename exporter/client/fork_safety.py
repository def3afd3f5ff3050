"""What a forked child begins anew: it has its parent's memory, but none of its threads."""

import os
from typing import ClassVar
from weakref import WeakSet


class ForkAware:
    """Something that a forked child begins anew, if it is still in use."""

    _all: ClassVar[WeakSet["ForkAware"]] = WeakSet()

    def __init__(self) -> None:
        self._all.add(self)

    def reset_after_fork(self) -> None:
        """Called in the child, before anything else runs there."""
        raise NotImplementedError

    @classmethod
    def after_fork(cls) -> None:
        """Begin all anew."""
        for each in list(cls._all):
            each.reset_after_fork()


# Once: a hook of each run would keep every run of a long program in memory.
os.register_at_fork(after_in_child=ForkAware.after_fork)
