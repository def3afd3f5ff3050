"""Notebooks: energy and emissions of a cell.

%load_ext exporter.integrations.notebook

%%emissions --group sweep-1 training
model.fit(x, y)
"""

from typing import Any

from exporter import formatting
from exporter.client import Run, track
from exporter.report import quantities


def load_ipython_extension(ipython: Any) -> None:
    """Register the cell magic; called by `%load_ext`."""

    def emissions(line: str, cell: str) -> None:
        """Measure the cell as a run named by the rest of the line, and print its usage.

        `--group NAME` sets the run's group. Re-raises the cell's exception, so that later cells do
        not run.
        """
        name, group = parsed(line)
        with track(name, group=group, progress=False, receipts=None) as run:
            result = ipython.run_cell(cell)
        print(usage_line(run))  # noqa: T201  below the cell
        result.raise_error()

    ipython.register_magic_function(emissions, "cell")


def parsed(line: str) -> tuple[str, str]:
    """Parse name and group of a cell. Raises ValueError for an unknown option."""
    words, name, group = line.split(), [], ""
    while words:
        word = words.pop(0)
        option, _, value = word.partition("=")
        if not option.startswith("-"):
            name.append(word)
        elif option != "--group":
            raise ValueError(f"%%emissions: unknown option {option}; use --group NAME")
        elif not (group := value or (words.pop(0) if words else "")):
            raise ValueError("%%emissions: --group requires a name; use --group NAME")
    return " ".join(name) or "cell", group


def usage_line(run: Run) -> str:
    """Return one line with the usage of a run."""
    if not run.record:
        return "emissions: not measured"
    record = run.record
    return (
        f"emissions: {formatting.energy(record['energy_uj'])}, "
        f"{quantities.carbon_text(record)} CO2eq in "
        f"{formatting.duration(record['duration_seconds'])} ({run.run_id})"
    )
