"""The page for those who come from CodeCarbon leaves no argument out."""

from pathlib import Path

import pytest

from exporter.integrations.codecarbon.settings import ARGUMENTS, LOCATION_ARGUMENTS

PAGE = Path(__file__).parents[4] / "docs" / "integrations" / "codecarbon.md"


@pytest.mark.parametrize("argument", [*ARGUMENTS, *LOCATION_ARGUMENTS])
def test_an_argument_is_in_the_table(argument):
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert sum(f"`{argument}`" in row.split("|")[1] for row in rows) >= 1
