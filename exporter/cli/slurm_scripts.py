"""`slurm-scripts`: write the prolog and the epilog of Slurm that come with this version.

DIRECTORY receives `prolog.sh` and `epilog.sh`, executable. Choose one that stays when the program
is removed, such as /usr/local/lib/emissions-exporter/slurm: slurmd drains a node whose epilog is
missing.
"""

import argparse
import os
from typing import Any

from exporter.cli.shipped import shipped, write

NAME, SOURCE = "slurm", "deploy/slurm"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "slurm-scripts", help="Write the prolog and epilog of Slurm.", description=__doc__
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="Created where it is missing.")
    parser.add_argument(
        "--force", action="store_true", help="Replace scripts that differ, as after an upgrade."
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Write the scripts and print their paths. Raises ConfigError where one would be replaced."""
    made = {
        os.path.join(options.directory, name): text
        for name, text in shipped(NAME, SOURCE)
        if name.endswith(".sh")
    }
    write(options.directory, made, force=options.force, executable=True)
    return 0
