"""Texts that a hostile user chose, in what the commands print, as real programs read it."""

import contextlib
import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.client.agent_client import AgentClient
from tests.real.browser import FLAGS
from tests.real.parts import COMMAND, LONG_SECONDS, REPOSITORY, Daemon, get

pytestmark = pytest.mark.beside

HOSTILE = (
    "=1+1|\x1b[2J\x9b1m\u202e</td><script>alert(1)</script>"
    '[x](javascript:a)\\input{x}$%_"} 1\nforged 2\n---\n*x: &y #'
)
"""Escapes of terminals, HTML, Markdown, CSV, LaTeX, YAML and the text format of Prometheus.

Shorter than the 128 bytes to which texts are cut."""
SHOWN = HOSTILE.replace("\x1b", " ").replace("\x9b", " ").replace("\n", " ").replace("\u202e", " ")
"""The id under which the daemon knows the run: one line of printable text."""
PLAIN = "plain"
COMMANDS = (
    ("runs",),
    ("runs", "--by", "group"),
    ("runs", "--by", "job"),
    ("report", SHOWN),
    ("report", "--group", SHOWN),
    ("report", "--format=markdown", SHOWN),
    ("report", "--format=latex", SHOWN),
    ("report", "--format=html", SHOWN),
    ("report", "--format=model-card", SHOWN),
    ("report", "--format=codecarbon", SHOWN),
    ("report", "--format=json", SHOWN),
    ("report", "no-" + HOSTILE),
    ("runs", "--format=csv"),
    ("leaderboard", "--metric", SHOWN),
    ("leaderboard", "--format=markdown", "--metric", SHOWN),
    ("leaderboard", "--format=csv", "--metric", SHOWN),
    ("leaderboard", "--format=html", "--metric", SHOWN),
    ("leaderboard", SHOWN),
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings of cells that spreadsheets evaluate; OWASP, "CSV Injection"."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that knows a run whose texts are all hostile, and a plain one."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "sys").mkdir()
    (root / "config.json").write_text('{"attribute": {"read_environments": false}}')
    daemon = Daemon(root / "n", f"--path.sysfs={root}/sys", f"--config.file={root}/config.json")
    daemon.start()
    try:
        agent = AgentClient(daemon.socket)
        for text in (HOSTILE, PLAIN):
            labels = {text: text, "group": text, "training_type": text, "software": text}
            record = agent.start(run_id=text, job_id=text, name=text, labels=labels)
            ids = record["run_id"], record["job_id"]
            agent.log(*ids, values={text: 0.5, f"{text}2": text}, count={text: 7})
            daemon.pass_ticks(1)
            agent.end(*ids)
        yield daemon
    finally:
        daemon.stop()


def command(daemon: Daemon | None, arguments: tuple[str, ...]) -> list[str]:
    source = () if daemon is None else (f"--socket.path={daemon.socket}",)
    return [*COMMAND, arguments[0], *source, *arguments[1:]]


def printed(daemon: Daemon, *arguments: str) -> str:
    """Return what a command prints to a file."""
    done = subprocess.run(
        command(daemon, arguments), cwd=REPOSITORY, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def shown(daemon: Daemon | None, *arguments: str) -> str:
    """Return what a command writes to a terminal, of both streams."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            command(daemon, arguments), cwd=REPOSITORY, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while read := terminal.read(65536):
                text += read
        process.wait(LONG_SECONDS)
    return text.decode()


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: " ".join(each)[:40])
def test_a_terminal_gets_nothing_but_printable_text(
    daemon: Daemon, arguments: tuple[str, ...]
) -> None:
    text = shown(daemon, *arguments)
    assert "Traceback" not in text
    assert harmful(text) == set()


def harmful(text: str) -> set[str]:
    """Return the characters of a terminal's text that are no text; its lines end in CR and LF."""
    assert text.strip()
    lines = re.sub("\r+\n", "", text).replace("\t", "")
    return {c for c in lines if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_a_record_file_of_somebody_else_is_shown_as_printable_text(
    daemon: Daemon, tmp_path: Path, format_: str
) -> None:
    record = json.loads(printed(daemon, "report", "--format=json", SHOWN))
    texts = dict.fromkeys(("run_id", "job_id", "name", "user", "node"), HOSTILE)
    record |= {**texts, "labels": {HOSTILE: HOSTILE}, "logged": {HOSTILE: 0.5}}
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    arguments = ("leaderboard", "--from", str(file), f"--format={format_}", "--metric", HOSTILE)
    assert harmful(shown(None, *arguments)) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "--format=html", SHOWN),
        ("report", "--format=html", "--group", SHOWN),
        ("leaderboard", "--format=html", "--metric", SHOWN),
    ],
    ids=["report", "group", "leaderboard"],
)
def test_a_browser_shows_text_and_runs_and_loads_nothing(
    daemon: Daemon, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: `make tools` as root installs Debian's")
    file = tmp_path / "page.html"
    file.write_text(printed(daemon, *arguments))
    complaints: list[str] = []
    requested: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(file.as_uri())
        assert "<script>alert(1)</script>" in page.inner_text("body")
        assert page.locator("script, [onerror], a[href^=javascript]").count() == 0
        assert "owned" not in page.title().partition("</td>")[0].split()
        browser.close()
    assert (complaints, requested) == ([], [file.as_uri()])


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "--format=csv"),
        ("runs", "--format=csv", "--by", "group"),
        ("report", "--format=codecarbon", SHOWN),
        ("leaderboard", "--format=csv", "--metric", SHOWN),
    ],
    ids=lambda each: " ".join(each)[:30],
)
def test_no_cell_of_a_table_is_a_formula_and_every_row_has_all_cells(
    daemon: Daemon, arguments: tuple[str, ...]
) -> None:
    head, *rows = csv.reader(io.StringIO(printed(daemon, *arguments), newline=""))
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    texts = [cell for row in (head, *rows) for cell in row if not is_number(cell)]
    assert [cell for cell in texts if cell.startswith(FORMULAS)] == []


def is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="requires pdflatex")
def test_latex_typesets_the_report_and_neither_reads_nor_runs_anything(
    daemon: Daemon, tmp_path: Path
) -> None:
    text = printed(daemon, "report", "--format=latex", SHOWN)
    (tmp_path / "made.tex").write_text(
        f"\\documentclass{{article}}\\begin{{document}}{text}\\end{{document}}"
    )
    made = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=batchmode", "-recorder", "made.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert made.returncode == 0, (tmp_path / "made.log").read_text(errors="replace")
    assert "passwd" not in (tmp_path / "made.fls").read_text()
    assert "runsystem" not in (tmp_path / "made.log").read_text(errors="replace")


def test_a_model_card_has_the_texts_as_strings_of_yaml(daemon: Daemon, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    done = subprocess.run(
        [*COMMAND, "card", "write", f"--socket.path={daemon.socket}", str(card), SHOWN],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, front, _ = card.read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert set(metadata) == {"co2_eq_emissions"}
    facts: dict[str, Any] = metadata["co2_eq_emissions"]
    assert {type(value) for value in facts.values()} <= {str, float, int}


def test_prometheus_reads_the_page_and_finds_no_forged_series(daemon: Daemon) -> None:
    page = get(f"{daemon.url}/metrics")
    assert b"\nemissions_forged" not in page
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on this machine: `make tools` installs Debian's")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page,
        capture_output=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert b"error" not in checked.stderr.lower(), checked.stderr


def test_documents_are_json_with_the_texts_as_they_were_stored(daemon: Daemon) -> None:
    record = json.loads(printed(daemon, "report", "--format=json", SHOWN))
    (stored,) = [run for run in daemon.json("/api/v1/runs")["runs"] if run["run_id"] != PLAIN]
    assert record["run_id"] == stored["run_id"]
    assert set(record["units"]) == set(stored["units"])
