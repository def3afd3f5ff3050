"""What a live source of intensity is, what it asks with, and what it answers."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

from exporter.model.intensity import Kind, Value

GOOD = "ok"
"""Outcome of a request that brought what was wanted."""
FEWER = "set_aside"
"""Outcome of one that brought values of which some cannot be true."""
STALE = "stale"
"""Outcome of one that brought none that still holds."""
STOPPED = "stopped"
"""Outcome of one that the exporter broke off because it ends; no failure of the source."""


class Answer(NamedTuple):
    """What a source knows, earliest first; no two values begin at one time."""

    values: tuple[Value, ...]
    forecast: tuple[Value, ...] = ()
    set_aside: int = 0
    """Values that cannot be true: negative, beyond all grids, or from the future."""
    publisher: str = ""
    """Who says so, where only the answer tells."""
    place: str = ""
    """What place they are of, where only the answer tells."""
    as_of: float | None = None
    """Wall clock of what they say, 0 where nobody knows it; None: each is of its own start."""


class Http(Protocol):
    """What a source asks with."""

    def get(
        self,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> Any:
        """The JSON document at `url`. Raises FetchFailed."""

    def hide(self, secret: str) -> str:
        """The secret; it is left out of every text of an error from now on."""


class LiveSource(Protocol):
    """One source. Made of its options in the daemon, where it says what it is, and in the child."""

    @property
    def publisher(self) -> str:
        """Who says so; shown beside every gram."""

    @property
    def place(self) -> str:
        """Zone or region as the source names it."""

    country: ClassVar[str]
    """ISO 3166-1 alpha-3 of the only one that it knows; "": it knows several."""

    @property
    def kind(self) -> Kind:
        """What its values count."""

    @property
    def refresh_seconds(self) -> float:
        """Time between two good answers; keeps within the limits of the source."""

    @property
    def max_age_seconds(self) -> float:
        """How long its last value holds, beyond its own interval."""

    def check(self) -> tuple[str, ...]:
        """What a person should know of the options. Raises ConfigError."""

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """Values since `since`, the one that holds at `now` among them, and a forecast.

        Both are wall clock seconds. May block. Raises FetchFailed.
        """
