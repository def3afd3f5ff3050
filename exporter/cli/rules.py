"""`rules`: rules and alerts for Prometheus, made of a file of emission budgets."""

import argparse
from collections.abc import Sequence
from typing import Any

import yaml

from exporter.budgets.budget import Budget, read
from exporter.budgets.rules import document, selector
from exporter.cli.parser import add_runbook_flag
from exporter.cli.prometheus import add_options, opened
from exporter.errors import ConfigError


class Plain(yaml.SafeDumper):
    """Spells out what is there twice."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Whether it is spelled out."""
        return True


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "rules",
        help="Generate Prometheus rules from a budgets file.",
        description=f"{__doc__} With --prometheus, a budget that matches no run there is refused.",
    )
    parser.add_argument("--budgets", metavar="FILE", required=True, help="The budgets, YAML.")
    add_runbook_flag(parser)
    add_options(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the rule file."""
    budgets = read(options.budgets)
    if options.prometheus:
        _refuse_idle(budgets, options)
    print("# Made by `emissions-exporter rules`. Needs the rules that `dashboards` writes.")
    made = document(budgets, options.runbook_url)
    print(yaml.dump(made, Dumper=Plain, sort_keys=False, allow_unicode=True, width=1000), end="")
    return 0


def _refuse_idle(budgets: Sequence[Budget], options: argparse.Namespace) -> None:
    """Refuse a budget of which no run was seen. Raises ConfigError and SourceError."""
    from exporter.report.prometheus import matches

    api = opened(options)
    for budget in budgets:
        wanted = selector(budget)
        if wanted and not matches(api, wanted, options.since_seconds):
            raise ConfigError(
                f"{options.budgets}: line {budget.line}: {budget.name}: no run matches {wanted} "
                "there; check its values, --since, and that attribute.exported_labels in the "
                "exporters' settings file names its labels"
            )
