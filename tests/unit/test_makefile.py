"""Each target of the Makefile sets up what its commands need, from a fresh clone on."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.beside]

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
OURS = ("exporter", "tests", "dashboards", "deploy", "docs", "panels")
TOOLS = {"cc", "prometheus", "promtool", "prometheus-alertmanager", "chromium"}
TOOLS |= {"victoria-metrics", "vmalert"}  # of one package
"""Programs that `.ci/setup tools` provides; helm is also provided alone."""
PARTS = ROOT / "tests" / "real" / "parts.py"
OF_PARTS = {"Prometheus": "prometheus", "Alertmanager": "prometheus-alertmanager"}
"""Programs of a module of which others use parts, by the part."""
IN_ENVIRONMENT = re.compile(r"(?:\.venv|build/ml/[\w-]+)/bin/(?:python|emissions-exporter)")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What make reads of a fresh clone."""
    made = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, made)
    shutil.copytree(ROOT / ".ci", made / ".ci")
    shutil.copytree(ROOT / "tests" / "ml", made / "tests" / "ml")
    return made


def commands(clone, target):
    """What make would run, without running it."""
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs the tests
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.replace("\\\n", " ").splitlines()]


def names_of(requirements):
    """Distributions, as their names are compared."""
    return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in requirements}


RUNTIME = names_of(PROJECT["project"]["dependencies"])
DEVELOPMENT = RUNTIME | names_of(PROJECT["dependency-groups"]["dev"])


@cache
def parsed(path):
    return ast.parse(path.read_text())


def file_of(module):
    """The file of a module of this repository, if it is one."""
    path = ROOT.joinpath(*module.split("."))
    found = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((each for each in found if each.is_file()), None)


def imported(path):
    """Modules that a file imports; of the exporter's own, those that it cannot do without."""
    tree = parsed(path)
    is_exporter = (ROOT / "exporter") in path.parents
    for node in tree.body if is_exporter else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def reached(path):
    """All files of the repository that a program consists of."""
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += filter(None, map(file_of, imported(file)))
    return found


def distributions(files):
    """What must be installed for these files."""
    known = packages_distributions()
    tops = {module.partition(".")[0] for file in files for module in imported(file)}
    tops -= {*OURS, *sys.stdlib_module_names, "urllib3"}  # a part of requests
    assert tops <= known.keys(), "not installed with the tools of development"
    return {name.lower().replace("_", "-") for top in tops for name in known[top]}


def programs(files):
    """Programs that files look for, or run with arguments: `which("cc")`, `["cc", "-O2"]`."""
    files = [file for file in files if file != PARTS]
    nodes = [node for file in files for node in ast.walk(parsed(file))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    first = [each.args[0] for each in calls if getattr(each.func, "attr", "") == "which"]
    first += [node.elts[0] for node in nodes if isinstance(node, ast.List) and node.elts]
    names = {node.value for node in first if isinstance(node, ast.Constant)}
    modules = {module for file in files for module in imported(file)}
    names |= {
        program for part, program in OF_PARTS.items() if f"tests.real.parts.{part}" in modules
    }
    return names & {*TOOLS, "helm"}


def file_run(line):
    """The file of this repository that a command runs; None if it runs none."""
    words = [word for word in shlex.split(line) if word != "exec"]
    if not words or not IN_ENVIRONMENT.fullmatch(words[0]) or len(words) == 1:
        return None
    if words[1] == "-m":
        return file_of(words[2])
    return ROOT / words[1] if words[1].endswith(".py") else None


def missing(lines):
    """What commands need that none before them sets up."""
    problems, done = [], set()
    for line in lines:
        if setup := re.match(r"\.ci/setup (\w+)", line):
            done |= {setup[1], *(["run"] if setup[1] == "dev" else [])}
            continue
        if IN_ENVIRONMENT.search(line) and "run" not in done:
            problems.append(f"run: {line}")
        if re.search(r"\.venv/bin/python -m (?:pytest|ruff|mypy)", line) and "dev" not in done:
            problems.append(f"dev: {line}")
        if re.search(r"-m pytest.* -m \"?(?:real|chaos)\b", line) and "tools" not in done:
            problems.append(f"tools: {line}")
        file = file_run(line)
        files = reached(file) if file else set()
        installed = DEVELOPMENT if "dev" in done else RUNTIME
        problems += [f"{each}: {line}" for each in distributions(files) - installed]
        provided = {*(TOOLS | {"helm"} if "tools" in done else ())} | done
        problems += [f"{each}: {line}" for each in programs(files) - provided]
    return problems


@pytest.mark.parametrize("target", [*TARGETS, "test-ml-torch"])
def test_a_target_sets_up_what_its_commands_need(clone, target):
    lines = commands(clone, target)
    assert lines
    assert missing(lines) == []


def test_every_target_of_the_list_is_phony_and_none_is_a_file_of_the_clone():
    listed = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert set(listed) <= set(TARGETS)


KUBELET = {"grpcio", "grpcio-tools", "protobuf"}
"""What the kubelet's double is made with."""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([".venv/bin/python -m tests.bench.run"], {"run", *KUBELET, "pytest", "cc"}),
        ([".ci/setup run", ".venv/bin/python -m tests.bench.run"], {*KUBELET, "pytest", "cc"}),
        ([".ci/setup dev", ".venv/bin/python -m tests.bench.run"], {"cc"}),
        (
            [".ci/setup dev", ".venv/bin/python -m tests.bench.fleet"],
            {"prometheus", "promtool", "cc"},
        ),
        ([".ci/setup run", ".venv/bin/python -m ruff check ."], {"dev"}),
        ([".ci/setup dev", ".venv/bin/python -m pytest -m chaos -ra"], {"tools"}),
        ([".ci/setup dev", ".venv/bin/python -m deploy.helm.generate"], {"helm"}),
        (["exec .venv/bin/emissions-exporter serve"], {"run"}),
        (
            [".ci/setup tools || echo", ".ci/setup dev", ".venv/bin/python -m tests.bench.run"],
            set(),
        ),
    ],
)
def test_the_check_sees_what_is_missing(lines, expected):
    assert {each.partition(":")[0] for each in missing(lines)} == expected
