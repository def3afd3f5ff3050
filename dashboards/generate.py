"""Writes generated/*.json from the *.dashboard.py beside this file.

`--check` writes nothing and fails if a file is not what would be written.
"""

import argparse
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from grafanalib._gen import write_dashboard

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "generated"
SUFFIX = ".dashboard.py"


def pages() -> dict[Path, str]:
    """Each file that should be there, and its text."""
    made = {}
    for source in sorted(HERE.glob(f"*{SUFFIX}")):
        text = io.StringIO()
        write_dashboard(runpy.run_path(str(source))["dashboard"], text)
        made[GENERATED / f"{source.name.removesuffix(SUFFIX)}.json"] = text.getvalue()
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; the answer is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args(arguments)
    wanted = pages()
    found = {path: path.read_text(encoding="utf-8") for path in GENERATED.glob("*.json")}
    stale = sorted(path for path in wanted | found if wanted.get(path) != found.get(path))
    if options.check and stale:
        names = ", ".join(f"dashboards/generated/{path.name}" for path in stale)
        print(f"{names}: not made from this code, run `make dashboards`", file=sys.stderr)
        return 1
    GENERATED.mkdir(exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
