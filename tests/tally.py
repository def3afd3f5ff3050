"""What all runs of pytest together skipped, and how many tests ran twice, in one line each.

Each run of pytest adds a line of JSON to the file that the environment variable TALLY names.
"""

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Tally:
    """Of one run of pytest, or of several."""

    skipped: dict[str, int] = field(default_factory=dict)
    """Tests by the reason why they were skipped."""
    twice: list[str] = field(default_factory=list)
    """Ids of the tests that failed once and were run again."""

    def append(self, path: Path) -> None:
        """Add a line to a file."""
        with path.open("a") as file:
            file.write(json.dumps(asdict(self)) + "\n")


def total(path: Path) -> Tally:
    """The sum of the lines of a file."""
    lines = path.read_text().splitlines() if path.exists() else []
    tallies = [Tally(**json.loads(line)) for line in lines]
    skipped: Counter[str] = Counter()
    for tally in tallies:
        skipped.update(tally.skipped)
    return Tally(dict(skipped), [test for tally in tallies for test in tally.twice])


def report(tally: Tally) -> str:
    """Two lines: what was skipped and why, and what ran twice."""
    reasons = [
        f"{count} of them: {reason}"
        for reason, count in sorted(tally.skipped.items(), key=lambda item: (-item[1], item[0]))
    ]
    count = sum(tally.skipped.values())
    skipped = "; ".join([f"tests skipped: {count}", *reasons])
    twice = "; ".join([f"tests that ran twice: {len(tally.twice)}", *tally.twice])
    return f"{skipped}\n{twice}"


if __name__ == "__main__":
    sys.stdout.write(report(total(Path(sys.argv[1]))) + "\n")
