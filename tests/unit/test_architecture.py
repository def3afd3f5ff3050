"""Every module follows the architecture rules, and the check of the rules works."""

from pathlib import Path

import pytest

import exporter
from tests.architecture import PACKAGE, violations

ROOT = Path(exporter.__file__).parent


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_modules_follow_the_architecture_rules(module):
    assert violations(MODULES[module].read_text(encoding="utf-8"), module) == []


FIVE = "\n".join(
    f"import exporter.{stage}" for stage in ("sample", "attribute", "convert", "account", "expose")
)

BROKEN = {
    "stage imports stage": ("exporter.convert.x", "from exporter.account import books"),
    "stage imports stage by its module": (
        "exporter.convert.x",
        "import exporter.sample.energy_counters",
    ),
    "stage imports stage inside a function": (
        "exporter.sample.x",
        "def f():\n    from exporter import expose",
    ),
    "stage imports stage relatively": ("exporter.sample.x", "from ..expose import page"),
    "stage imports settings": ("exporter.expose.x", "from exporter.config import Config"),
    "model imports a stage": ("exporter.model.x", "from exporter.convert import chain"),
    "client imports the package": ("exporter.client.x", "from exporter.units import joules"),
    "another knows all five": ("exporter.cli.x", FIVE),
    "pynvml elsewhere": ("exporter.sample.sources.rapl", "import pynvml"),
    "requests elsewhere": ("exporter.report.forms.x", "import requests"),
    "sqlite3 elsewhere": ("exporter.expose.x", "from sqlite3 import connect"),
    "asyncio elsewhere": ("exporter.account.x", "import asyncio"),
    "ssl elsewhere": ("exporter.convert.x", "import ssl"),
    "grafanalib anywhere": ("exporter.expose.x", "from grafanalib.core import Graph"),
    "threading elsewhere": ("exporter.account.x", "import threading"),
    "processes instead of threads": ("exporter.sample.x", "import multiprocessing.pool"),
    "a mutable module-level name": ("exporter.units", "seen = {}"),
    "a made mutable module-level name": (
        "exporter.units",
        "import collections\nseen = collections.deque()",
    ),
    "a global statement": ("exporter.units", "N = 0\ndef f():\n    global N\n    N = 1"),
    "a constant that is written into": ("exporter.units", "N = {}\ndef f():\n    N['a'] = 1"),
    "a constant that is added to": ("exporter.units", "N = []\ndef f():\n    N.append(1)"),
    "the wall clock in a stage": ("exporter.convert.x", "import time\nNOW = time.time()"),
    "the wall clock by its name": ("exporter.convert.x", "from time import monotonic"),
    "the date in a stage": (
        "exporter.convert.x",
        "from datetime import datetime, UTC\nf = lambda: datetime.now(UTC)",
    ),
    "a fixed path in a stage": ("exporter.sample.x", "def f():\n    return open('/proc/stat')"),
    "a file written outside account": ("exporter.convert.x", "open('cache', 'w')"),
    "a file written by its path": ("exporter.attribute.x", "path.write_text('cache')"),
    "a name that says nothing": ("exporter.sample.utils", ""),
}

SOUND = {
    "stage imports what all share": (
        "exporter.convert.x",
        "from exporter import errors, units\nfrom exporter.model.ledger import Entry",
    ),
    "stage imports itself": ("exporter.convert.x", "from exporter.convert import tables"),
    "stage shows the version": ("exporter.expose.x", "from exporter import __version__"),
    "loop and app know all five": ("exporter.loop", FIVE),
    "library in its place": ("exporter.account.ledger", "import sqlite3"),
    "a constant table": ("exporter.units", "NAMES = {'a': 1}\ndef f():\n    return NAMES['a']"),
    "a local of the same name": (
        "exporter.units",
        "N = {}\ndef f():\n    N = {}\n    N['a'] = 1",
    ),
    "a path as a default": ("exporter.sample.x", "def f(procfs='/proc'): ..."),
    "account writes": ("exporter.account.journal", "open('journal', 'wb')"),
    "a file read": ("exporter.convert.x", "open('table', 'rb')"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found_once(rule):
    module, source = BROKEN[rule]
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize("case", SOUND)
def test_valid_modules_pass(case):
    module, source = SOUND[case]
    assert violations(source, module) == []
