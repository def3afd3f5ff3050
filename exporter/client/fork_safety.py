"""Reset of objects with locks or threads in a forked child, which inherits memory only."""

import os
from typing import ClassVar
from weakref import WeakSet


class ForkAware:
    """Base class of objects that must be reset in a forked child. Holds weak references only."""

    _all: ClassVar[WeakSet["ForkAware"]] = WeakSet()

    def __init__(self) -> None:
        self._all.add(self)

    def reset_after_fork(self) -> None:
        """Reset the object; called in the child before other code runs."""
        raise NotImplementedError

    @classmethod
    def after_fork(cls) -> None:
        """Reset all objects."""
        for each in list(cls._all):
            each.reset_after_fork()


# Registered once: a hook per run would keep every run of a long program in memory.
os.register_at_fork(after_in_child=ForkAware.after_fork)
