"""Cards as files: replaced at once, or left as they were."""

import os

import pytest

from exporter.errors import ConfigError
from exporter.report.card.merge import read_card, update_card_file


def test_a_card_that_is_not_there_is_begun(record, tmp_path):
    path = tmp_path / "README.md"
    update_card_file(str(path), record)
    assert "  emissions: 83524\n" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_the_mode_stays(record, card, tmp_path):
    path, link = tmp_path / "blob", tmp_path / "README.md"
    path.write_text(card)
    path.chmod(0o640)
    link.symlink_to(path)
    update_card_file(str(link), record)
    assert link.is_symlink()
    assert "emissions: 83524" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_card_that_would_not_change_is_not_written(record, tmp_path):
    path = tmp_path / "README.md"
    update_card_file(str(path), record)
    os.utime(path, (1, 1))
    update_card_file(str(path), record)
    assert path.stat().st_mtime == 1


def test_line_ends_are_those_of_the_file(record, tmp_path):
    path = tmp_path / "README.md"
    path.write_bytes(b"---\r\na: 1\r\n---\r\n")
    update_card_file(str(path), record)
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")


def test_what_is_malformed_is_left_as_it_was_and_named(record, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("---\na: [\n---\n")
    with pytest.raises(ConfigError, match=r"README.md: line 2: metadata are not YAML"):
        update_card_file(str(path), record)
    assert path.read_text() == "---\na: [\n---\n"


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")]
)
def test_what_is_no_text_is_an_error_that_names_it(make, tmp_path):
    path = tmp_path / "README.md"
    make(path)
    with pytest.raises(ConfigError, match=r"README.md: "):
        read_card(str(path))
