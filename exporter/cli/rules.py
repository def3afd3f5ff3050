"""`rules`: rules and alerts for Prometheus, made of a file of emission budgets."""

import argparse
from collections.abc import Sequence
from typing import Any

import yaml

from exporter.budgets import BudgetDefinition, load_budgets, rule_file, selector
from exporter.cli.arguments import add_prometheus_options, add_runbook_flag, open_prometheus
from exporter.errors import ConfigError


class NoAliasDumper(yaml.SafeDumper):
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
    add_prometheus_options(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the rule file."""
    budgets = load_budgets(options.budgets)
    if options.prometheus:
        _refuse_unmatched(budgets, options)
    print("# Made by `emissions-exporter rules`. Needs the rules that `dashboards` writes.")
    made = rule_file(budgets, options.runbook_url)
    print(
        yaml.dump(made, Dumper=NoAliasDumper, sort_keys=False, allow_unicode=True, width=1000),
        end="",
    )
    return 0


def _refuse_unmatched(budgets: Sequence[BudgetDefinition], options: argparse.Namespace) -> None:
    """Refuse a budget of which no run was seen. Raises ConfigError and SourceError."""
    from exporter.report.fleet import has_series

    api = open_prometheus(options)
    for budget in budgets:
        wanted = selector(budget)
        if wanted and not has_series(api, wanted, options.since_seconds):
            raise ConfigError(
                f"{options.budgets}: line {budget.line}: {budget.name}: no run matches {wanted} "
                "there; check its values, --since, and that attribute.exported_labels in the "
                "exporters' settings file names its labels"
            )
