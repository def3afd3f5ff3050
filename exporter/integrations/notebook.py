"""Notebooks: what a cell used.

%load_ext exporter.integrations.notebook

%%emissions --group sweep-1 training
model.fit(x, y)
"""

from typing import Any

from exporter import formatting
from exporter.client import Run, track


def load_ipython_extension(ipython: Any) -> None:
    """Called by `%load_ext`."""

    def emissions(line: str, cell: str) -> None:
        """Run the cell as a run, which the rest of the line names, and say what it used.

        `--group NAME` beside the name puts it into a group. Raises what the cell raised: the cells
        after it are not to run.
        """
        name, group = parsed(line)
        with track(name, group=group, progress=False, receipts=None) as run:
            result = ipython.run_cell(cell)
        print(usage_line(run))  # noqa: T201  below the cell
        result.raise_error()

    ipython.register_magic_function(emissions, "cell")


def parsed(line: str) -> tuple[str, str]:
    """Name and group of a cell. Raises ValueError for an option that is none."""
    words, name, group = line.split(), [], ""
    while words:
        word = words.pop(0)
        option, _, value = word.partition("=")
        if not option.startswith("-"):
            name.append(word)
        elif option != "--group":
            raise ValueError(f"%%emissions: {option} is no option; known is --group NAME")
        elif not (group := value or (words.pop(0) if words else "")):
            raise ValueError("%%emissions: --group has no name; write --group NAME")
    return " ".join(name) or "cell", group


def usage_line(run: Run) -> str:
    """One line of what a run used."""
    if not run.record:
        return "emissions: not measured"
    record = run.record
    return (
        f"emissions: {formatting.energy(record['energy_uj'])}, "
        f"{formatting.carbon(record['carbon_ng'])} CO2eq in "
        f"{formatting.duration(record['duration_seconds'])} ({run.run_id})"
    )
