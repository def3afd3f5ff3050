"""`slurm-scripts`: write the bundled prolog and epilog for Slurm.

Writes the executable files `prolog.sh` and `epilog.sh` to DIRECTORY. Choose a directory that stays
when the program is uninstalled, such as /usr/local/lib/emissions-exporter/slurm: slurmd drains a
node if its epilog is missing.
"""

import argparse
import os
from typing import Any

from exporter.cli.shipped import shipped, write

NAME, SOURCE = "slurm", "deploy/slurm"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "slurm-scripts", help="Write the prolog and epilog for Slurm.", description=__doc__
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="Output directory; created if it does not exist."
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="Replace scripts that differ, for example after an upgrade.",
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Write the scripts and print their paths. Raises ConfigError if one would be replaced."""
    files = {
        os.path.join(options.directory, name): text
        for name, text in shipped(NAME, SOURCE)
        if name.endswith(".sh")
    }
    write(options.directory, files, force=options.force, executable=True)
    return 0
