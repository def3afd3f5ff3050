"""What a live source of intensity is, what it asks with, and what it answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from exporter.model.intensity import (
    Accounting,
    Basis,
    IntensityKind,
    IntensityValue,
    Signal,
    kg_per_kwh_error,
)
from exporter.setting import setting

OUTCOME_OK = "ok"
"""Outcome of a request that brought what was wanted."""
OUTCOME_SET_ASIDE = "set_aside"
"""Outcome of one that brought values of which some cannot be true."""
OUTCOME_STALE = "stale"
"""Outcome of one that brought none that still holds."""
OUTCOME_STOPPED = "stopped"
"""Outcome of one that the exporter broke off because it ends; no failure of the source."""


class FetchResult(NamedTuple):
    """What a source knows, earliest first; no two values begin at one time."""

    values: tuple[IntensityValue, ...]
    forecast: tuple[IntensityValue, ...] = ()
    rejected_count: int = 0
    """Values that cannot be true: negative, beyond all grids, or from the future."""
    publisher: str = ""
    """Who says so, where only the answer tells."""
    place: str = ""
    """What place they are of, where only the answer tells."""
    as_of: float | None = None
    """Wall clock of what they say, 0 where nobody knows it; None: each is of its own start."""


class HttpClient(Protocol):
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

    def redact(self, secret: str) -> str:
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
    def kind(self) -> IntensityKind:
        """What its values count."""

    @property
    def refresh_seconds(self) -> float:
        """Time between two good answers; keeps within the limits of the source."""

    @property
    def max_age_seconds(self) -> float:
        """How long its last value holds, beyond its own interval."""

    def check(self) -> tuple[str, ...]:
        """What a person should know of the options. Raises ConfigError."""

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Values since `since`, the one that holds at `now` among them, and a forecast.

        Both are wall clock seconds. May block. Raises FetchFailed.
        """


@dataclass(frozen=True, kw_only=True)
class KindOptions:
    """Options that say it."""

    signal: Literal["average", "marginal"] = setting("average", "", "What its values count.")
    basis: Literal["lifecycle", "direct", "unstated"] = setting("unstated", "", "The same.")
    accounting: Literal["location", "market"] = setting("location", "", "The same.")

    @property
    def kind(self) -> IntensityKind:
        """As the options say."""
        return Signal(self.signal), Basis(self.basis), Accounting(self.accounting)

    def unit_error(self, grams_per_kwh: Iterable[float]) -> str:
        """Why all of these values are taken for kg/kWh, and what to do; "" if they are not.

        Direct emissions, marginal ones and contracts can be that small: those of sun and wind.
        """
        if "marginal" in self.kind or "direct" in self.kind or "market" in self.kind:
            return ""
        error = kg_per_kwh_error(max(grams_per_kwh, default=0.0))
        return f"each value is below 1 g/kWh: {error}, or set basis to direct" if error else ""
