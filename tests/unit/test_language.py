"""The package keeps the mechanical part of the language rules."""

import ast
from pathlib import Path

import pytest

from tests import language

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "exporter").rglob("*.py"))
}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}


def test_a_class_name_is_used_once():
    assert list(language.duplicate_classes(TREES)) == []


@pytest.mark.parametrize("name", TREES)
def test_log_messages_are_constant(name):
    assert list(language.changing_log_messages(TREES[name])) == []


@pytest.mark.parametrize("name", TREES)
def test_texts_have_no_banned_words(name):
    assert list(language.banned_words(TREES[name])) == []


def test_small_modules_with_one_importer_are_listed(record_property):
    found = language.small_modules(TEXTS, TREES)
    record_property("small modules", " ".join(found))
    assert isinstance(found, list)


@pytest.mark.parametrize(
    "source",
    [
        'log.info(f"run {run} began")',
        "log.warning(text)",
        'log.error("%s", error)',
        "log.info(a or b)",
    ],
)
def test_the_check_sees_a_message_that_changes(source):
    assert len(list(language.changing_log_messages(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    ['log.info("began")', "log.info(STARTED)", 'log.info("a" if x else "b")', "other(note)"],
)
def test_the_check_accepts_a_constant_message(source):
    assert list(language.changing_log_messages(ast.parse(source))) == []


def test_the_check_sees_a_class_name_that_is_used_twice():
    trees = {"a": ast.parse("class Row: pass"), "b": ast.parse("class Row: pass")}
    assert list(language.duplicate_classes(trees)) == ["class Row is in a, b"]


def test_the_check_sees_a_banned_word_and_leaves_docstrings_alone():
    source = '"""It goes on."""\nraise ValueError("the driver is let go of")'
    assert len(list(language.banned_words(ast.parse(source)))) == 1
