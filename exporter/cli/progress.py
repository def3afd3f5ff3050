"""A progress bar for commands that take longer than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

WIDTH = 30
"""Of the bar alone, in characters."""


@contextmanager
def progress_bar(stream: TextIO, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function that shows how many of `total` are done; it prints nothing without a terminal.

    The bar is removed at the end, so that what is printed next stands on a line of its own.
    """
    if not stream.isatty() or total <= 0:
        yield lambda _: None
        return

    shown = ""

    def show(done: int) -> None:
        nonlocal shown
        filled = WIDTH * done // total
        shown = f"[{'#' * filled}{' ' * (WIDTH - filled)}] {done} of {total} {unit}"
        stream.write(f"\r{shown}")
        stream.flush()

    show(0)
    try:
        yield show
    finally:
        stream.write(f"\r{' ' * len(shown)}\r")
        stream.flush()
