"""The data that a panel is drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.dashboards.preview.formatting import Field, field
from tests.dashboards.preview.prometheus import Series, Span, reduced
from tests.dashboards.preview.variables import Marks


@dataclass(frozen=True)
class PanelData:
    """A panel of the JSON, what its queries answered, and its room in pixels."""

    panel: Mapping[str, Any]
    series: Sequence[Series]
    span: Span
    step_seconds: float
    width: float
    height: float
    marks: Sequence[Marks] = ()

    def option(self, *path: str) -> Any:
        """One of the panel's options; None where it has none."""
        found: Any = self.panel.get("options") or {}
        for name in path:
            found = (found or {}).get(name)
        return found

    def field(self, series: Series) -> Field:
        """What the panel says of a series."""
        return field(self.panel, series.name)

    def numbers(self) -> list[tuple[str, Field, float]]:
        """Name, field and number of each series, for panels that show one number for each."""
        calculation = (self.option("reduceOptions", "calcs") or ["lastNotNull"])[0]
        return [
            (each.name, self.field(each), value)
            for each in self.series
            if (value := reduced(each, calculation)) is not None
        ]
