"""PyTorch training loops: iterators that measure epochs and count batches.

for epoch in epochs(10, "resnet", on_epoch=print):
    for images, labels in batches(loader):
        ...
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from exporter.client import current_run, track
from exporter.report import quantities

Batch = TypeVar("Batch")
OnEpoch = Callable[[int, Mapping[str, float]], object]


def epochs(
    total: int, name: str = "", *, on_epoch: OnEpoch | None = None, **options: Any
) -> Iterator[int]:
    """Yield epoch numbers from 0; the loop is a run, which also ends if the loop is left early.

    After each epoch, `on_epoch` is called with its number and the run's metrics, for example for
    `SummaryWriter`; they are nan before the daemon's first reading. `options` are those of `track`.
    """
    with track(name, **options) as run:
        for epoch in range(total):
            yield epoch
            _synchronize()
            run.progress(epoch + 1, total)
            if on_epoch is not None:
                on_epoch(epoch, quantities.tracked_or_nan(run.refresh()))


def batches(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of a loader and count their samples in the current run."""
    run = current_run()
    for batch in loader:
        yield batch
        run.count(samples=_samples(batch))


def _samples(batch: Any) -> int:
    """Return the number of samples: the length of the first tensor or list of plain values.

    1 if there is neither.
    """
    first = batch
    while isinstance(first, list | tuple | Mapping) and len(first):
        if isinstance(first, Mapping):
            first = next(iter(first.values()))
        elif all(isinstance(each, str | int | float) for each in first):
            return len(first)
        else:
            first = first[0]
    try:
        return 1 if isinstance(first, str) else len(first)
    except TypeError:
        return 1


def _synchronize() -> None:
    """Wait for the GPU, so that its pending work is measured in this epoch."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
