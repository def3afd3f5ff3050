"""The rules of the house, checked in the source text of one module."""

import ast
import re
from collections.abc import Iterator

PACKAGE = "exporter"
STAGES = ("sample", "attribute", "convert", "account", "expose")
SHARED = {
    "backoff",
    "data",
    "job_variables",
    "model",
    "units",
    "errors",
    "clock",
    "privileges",
    "worker",
}
MAY_IMPORT = {
    **dict.fromkeys(STAGES, SHARED),
    "expose": SHARED | {"formatting", "html", "setting"},
    "convert": SHARED | {"redaction", "setting"},
    "model": {"units"},
    "formatting": {"units"},
    "html": {"formatting"},
    "redaction": set(),
    "data": set(),
    "units": set(),
    "errors": set(),
    "backoff": set(),
    "clock": set(),
    "privileges": set(),
    "worker": set(),
    "client": {"integrations", "job_variables"},
    "job_variables": set(),
    "systemd": {"clock", "units"},
    "config": {"model", "setting"},
    "setting": {"errors"},
    "config_loader": {"client", "config", "errors", "sample", "setting"},
    "budgets": {"errors", "model", "setting", "units"},
    "estimate": {"convert", "data", "errors", "formatting", "model", "report", "units"},
    "report": {"client", "convert", "formatting", "html", "model", "redaction", "units", "errors"},
    "integrations": {
        *("client", "convert", "errors", "formatting", "model", "redaction", "report", "units"),
        "worker",
    },
}
"""Parts of the package, and the parts that each may import besides itself."""

KNOW_ALL_STAGES = {"pipeline", "loop", "daemon", "wiring"}

ONLY_IN = {
    "asyncio": ("expose",),
    "grafanalib": (),
    "pynvml": ("sample.sources.nvml",),
    "requests": ("convert", "report.prometheus_queries", "integrations"),
    "sqlite3": ("account",),
    "ssl": ("cli.healthcheck", "convert.live.http", "expose", "attribute.sources.kube.api_server"),
    "threading": ("worker", "daemon", "client"),
    "_thread": (),
    "multiprocessing": (),
}
"""Libraries, and the only places of the package that may import them."""

CLOCK_CALLS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.clock_gettime",
    "time.clock_gettime_ns",
    "time.sleep",
    "datetime.now",
    "datetime.utcnow",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
}
HOST_PATH = re.compile(r"/(sys|proc|dev|run|var|etc)(/|$)")
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"}
MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
}
WRITERS = {"write_text", "write_bytes"}


def violations(source: str, module: str) -> list[str]:
    """What in `source`, the text of the module named `module`, breaks a rule."""
    tree = ast.parse(source)
    place = module.removeprefix(f"{PACKAGE}.")
    found = [
        *_names(module),
        *_imports(tree, module, place),
        *_module_state(tree),
    ]
    if place.partition(".")[0] in STAGES:
        found += [*_clocks(tree), *_paths(tree)]
        if not _within(place, "account"):
            found += _storing(tree)
    return [f"{module}: {text}" for text in found]


def _within(place: str, area: str) -> bool:
    return place == area or place.startswith(f"{area}.")


def _names(module: str) -> Iterator[str]:
    for part in VAGUE_NAMES & set(module.split(".")):
        yield f"the name {part} says nothing of what is inside"


def _imports(tree: ast.Module, module: str, place: str) -> Iterator[str]:
    part = place.partition(".")[0]
    allowed = MAY_IMPORT.get(part)
    stages = set()
    for line, name in _imported(tree, module):
        library, _, inside = name.partition(".")
        if library in ONLY_IN and not any(_within(place, area) for area in ONLY_IN[library]):
            areas = ", ".join(ONLY_IN[library]) or "nothing in this package"
            yield f"line {line}: imports {library}, which is only for {areas}"
        if library != PACKAGE:
            continue
        other = inside.split(".")[0]
        stages |= {other} & set(STAGES)
        if allowed is not None and other not in {part, "__version__", *allowed}:
            may = ", ".join(sorted(allowed)) or "only itself"
            yield f"line {line}: imports {name}; {part} may import {may}"
    if stages == set(STAGES) and part not in KNOW_ALL_STAGES:
        yield f"knows all five stages, as only {' and '.join(sorted(KNOW_ALL_STAGES))} may"


def _imported(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def _module_state(tree: ast.Module) -> Iterator[str]:
    """Module-level values that could change, unless named as constants, and any that do."""
    top = dict(_top_names(tree))
    for name, statement in top.items():
        if _is_mutable(statement.value) and not name.isupper():
            yield f"line {statement.lineno}: {name} is mutable and module-level"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in top.keys() & (_changed(node) - _local(node)):
                yield f"line {node.lineno}: {name} is module-level and {node.name} changes it"


def _top_names(tree: ast.Module) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node


def _is_mutable(value: ast.expr | None) -> bool:
    return isinstance(value, MUTABLE) or (
        isinstance(value, ast.Call) and _dotted(value.func).split(".")[-1] in MUTABLE_CALLS
    )


def _changed(function: ast.AST) -> set[str]:
    """Names of what a function changes in place."""
    return {
        _dotted(node.value)
        for node in ast.walk(function)
        if (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del))
        or (isinstance(node, ast.Attribute) and node.attr in MUTATORS)
    }


def _local(function: ast.AST) -> set[str]:
    """Names that are bound inside a function, its parameters included."""
    nodes = list(ast.walk(function))
    return {node.arg for node in nodes if isinstance(node, ast.arg)} | {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _clocks(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _dotted(node.func) in CLOCK_CALLS:
            yield f"line {node.lineno}: calls {_dotted(node.func)}; a clock is a parameter"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield f"line {node.lineno}: imports from time; a clock is a parameter"


def _paths(tree: ast.Module) -> Iterator[str]:
    """Paths of the host that are written into the code and are no parameter's default."""
    allowed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            allowed |= {id(default) for default in (*node.defaults, *node.kw_defaults)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in allowed:
            continue
        if isinstance(node.value, str) and HOST_PATH.match(node.value):
            yield f"line {node.lineno}: {node.value} is fixed; a path is a parameter"


def _storing(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _dotted(node.func).split(".")[-1]
        if called in WRITERS or (called == "open" and _opens_for_writing(node)):
            yield f"line {node.lineno}: writes a file; what must survive goes through account"


def _opens_for_writing(call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and set("wax+") & set(mode.value)
        for mode in modes
    )


def _dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written; empty if it is anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = _dotted(node.value)
        return f"{above}.{node.attr}" if above else ""
    return ""
