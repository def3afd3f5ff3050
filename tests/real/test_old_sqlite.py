"""The ledger with the SQLite of RHEL 8 (3.26) and of RHEL 9 (3.34), built by `.ci/setup tools`."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.fed import counted_uj, counters, fed_daemon, kept_uj, stepped_back
from tests.real.parts import REPOSITORY, until
from tests.unit.account.test_migrations import VERSIONS, write_strict

pytestmark = [
    pytest.mark.beside,
    pytest.mark.skipif(
        sqlite3.sqlite_version_info < (3, 37),
        reason="this SQLite cannot make the STRICT tables that an older one is to migrate",
    ),
]

ACCOUNT = "tests/unit/account"
ASK = "import sqlite3; print(sqlite3.sqlite_version)"


@pytest.fixture(scope="module", params=["3.26.0", "3.34.0"])
def prefix(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What starts a Python with an old SQLite."""
    library = REPOSITORY / "build" / "sqlite" / request.param
    if not (library / "libsqlite3.so.0").exists():
        pytest.skip(f"no SQLite {request.param}: `.ci/setup tools` builds it, with Go")
    found = ("env", f"LD_LIBRARY_PATH={library}")
    used = subprocess.run([*found, sys.executable, "-c", ASK], stdout=subprocess.PIPE, check=True)
    if used.stdout.decode().strip() != request.param:
        pytest.skip("this Python has an SQLite of its own")
    return found


def test_all_that_the_ledger_is_tested_for_holds(prefix: tuple[str, ...], tmp_path: Path) -> None:
    """Ledgers of older exporters among it, which an old SQLite cannot make, only migrate."""
    for version in VERSIONS:
        write_strict(version, tmp_path / f"schema-{version}.sqlite")
    found = subprocess.run(
        [
            *prefix,
            sys.executable,
            *["-m", "pytest", "-ra", "-p", "no:cacheprovider", "-p", "no:xdist"],
            ACCOUNT,
        ],
        cwd=REPOSITORY,
        env={**alone(os.environ), "STRICT_LEDGERS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert "STRICT_LEDGERS is not set" not in found.stdout


def alone(environment: "os._Environ[str]") -> dict[str, str]:
    """The environment without what pytest has put into it for its own workers."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST")}


def test_a_daemon_that_is_killed_loses_nothing(prefix: tuple[str, ...], tmp_path: Path) -> None:
    state = tmp_path / "daemon" / "state"
    with fed_daemon(tmp_path, state, prefix) as (host, daemon):
        pages = [counters(daemon)]
        for _ in range(3):
            daemon.pass_ticks(8)
            daemon.kill()
            daemon.start()
            pages.append(counters(daemon))
        host.stop()
        until(lambda: counted_uj(daemon) == host.used_uj(), what="every microjoule is counted")
    assert stepped_back(pages) == []
    assert kept_uj(state, "total") == kept_uj(state, "usage") == host.used_uj()


def test_a_daemon_goes_on_with_a_ledger_whose_tables_are_strict(
    prefix: tuple[str, ...], tmp_path: Path
) -> None:
    state = tmp_path / "daemon" / "state"
    state.mkdir(parents=True)
    write_strict(VERSIONS[-1], state / "ledger.sqlite")
    with fed_daemon(tmp_path, state, prefix) as (_, daemon):
        daemon.pass_ticks(8)
        records = daemon.json("/api/v1/runs")
    assert not re.search("damaged|renamed to", daemon.log())
    assert {"bert", "gpt", "long"} <= {record["run_id"] for record in records["runs"]}
