"""`rules`: rules and alerts for Prometheus, made of a file of emission budgets."""

import argparse
from typing import Any

import yaml

from exporter.budgets.budget import read
from exporter.budgets.rules import document


class Plain(yaml.SafeDumper):
    """Spells out what is there twice."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Whether it is spelled out."""
        return True


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("rules", help="Make rules of budgets.", description=__doc__)
    parser.add_argument("--budgets", metavar="FILE", required=True, help="The budgets, YAML.")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the rule file."""
    made = document(read(options.budgets))
    print("# Made by `emissions-exporter rules`. Needs the rules of deploy/prometheus/rules.")
    print(yaml.dump(made, Dumper=Plain, sort_keys=False, allow_unicode=True, width=1000), end="")
    return 0
