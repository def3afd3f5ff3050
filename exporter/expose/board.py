"""Where the loop puts up the latest state and readers find it, without either waiting."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from exporter.expose.catalogue import Family
from exporter.expose.exposition import Page, Renderer
from exporter.expose.process import ProcessState
from exporter.expose.view import View
from exporter.model.snapshot import Snapshot


class Current(NamedTuple):
    """One tick in the shapes that readers ask for."""

    snapshot: Snapshot
    view: View
    page: Page


class Board:
    """Holds what is shown now. Written by the loop alone, read from any thread."""

    def __init__(
        self,
        families: Sequence[Family],
        process: Callable[[], ProcessState | None] = lambda: None,
    ) -> None:
        self._renderer = Renderer(families)
        self._process = process
        self.current: Current | None = None
        """None until the first tick."""

    def publish(self, snapshot: Snapshot) -> None:
        """Render a snapshot and show it in the place of the one before."""
        view = View(snapshot, self._process())
        self.current = Current(snapshot, view, self._renderer.render(view))
