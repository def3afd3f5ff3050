"""The mechanical part of the language rules of CONTRIBUTING.md, checked in the source text."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

LOG_METHODS = {"debug", "info", "warning", "error", "exception"}
PASSED_ON = {"note", "event"}
"""Arguments whose text is constant where they are made: notes of the live page, events by name."""
SHORT_LINES = 40
PUBLIC_TWICE = {"Emissions", "track"}
"""Public names of the client and of integrations, each in a module that people import by name."""
BANNED = re.compile(
    r"\b(?:let go of|was not let in|says? so|goes on|fares?|stands? for|is told|was told|nobody"
    r"|begun anew|begins anew|taken in|took in|knows of|whoever|is called so|that many)\b",
    re.IGNORECASE,
)
"""Expressions that hide the actor or replace the field's term."""


def duplicate_classes(modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """Class names that several modules define."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in PUBLIC_TWICE:
            yield f"class {name} is in {', '.join(found)}"


def changing_log_messages(tree: ast.Module) -> Iterator[str]:
    """Log calls whose message is no constant text, so that it cannot be searched for."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        is_log = isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
        if not is_log or node.func.attr not in LOG_METHODS or not node.args:
            continue
        if not all(_is_constant(each) for each in _choices(node.args[0])):
            yield f"line {node.lineno}: the message is not constant: {ast.unparse(node.args[0])}"


def _choices(message: ast.expr) -> Iterable[ast.expr]:
    if isinstance(message, ast.IfExp):
        return (message.body, message.orelse)
    return (message,)


def _is_constant(message: ast.expr) -> bool:
    if isinstance(message, ast.Constant):
        return message.value != "%s"
    return isinstance(message, ast.Name) and (message.id.isupper() or message.id in PASSED_ON)


def banned_words(tree: ast.Module) -> Iterator[str]:
    """Banned expressions in texts that are no docstrings or explanations of constants."""
    explained = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = None if id(node) in explained else BANNED.search(node.value)
            if found:
                yield f"line {node.lineno}: {found[0]!r} in {node.value!r:.80}"


def small_modules(modules: Mapping[str, str], trees: Mapping[str, ast.Module]) -> list[str]:
    """Modules of few lines with one importer: candidates for a merge, listed and not refused."""
    importers: dict[str, set[str]] = defaultdict(set)
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                importers[node.module].add(name)
                for alias in node.names:
                    importers[f"{node.module}.{alias.name}"].add(name)
    return [
        name
        for name, text in sorted(modules.items())
        if text.count("\n") < SHORT_LINES and len(importers[name]) == 1
    ]
