"""One setting: how it is declared, and how a value that was given for it is checked."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal, TypeVar

from exporter.errors import ConfigError

T = TypeVar("T")

ENVIRONMENT_PREFIX = "EMISSIONS_EXPORTER_"


def variable(name: str) -> str:
    """Name of the environment variable for the setting `section.key`."""
    return f"{ENVIRONMENT_PREFIX}{name.replace('.', '_')}".upper()


def ways_to_set(name: str, value: str, *, flag: str = "", file: str = "") -> str:
    """How to set `section.key` to `value`: by flag, by variable, by a line of the settings file.

    `file` is the settings file in use, if any.
    """
    section, _, item = name.partition(".")
    ways = (
        *([f"--{flag}={value}"] if flag else []),
        f"{variable(name)}={value} in the exporter's environment",
        f"`{item}: {value}` under `{section}:` in {file or 'the settings file (--config.file)'}",
    )
    return f"set {name} by {', or by '.join(ways)}"


def setting(
    default: Any,
    unit: str,
    text: str,
    *,
    flag: str = "",
    least: float | None = None,
    most: float | None = None,
    place: Literal["", "directory", "file", "socket"] = "",
    error: Callable[[float], str] | None = None,
) -> Any:
    """A setting: default, unit ("" for none), what it does, its flag, and its bounds.

    `place` is what has to be at a path. `error` returns why a number is refused; "" if it is not.
    """
    metadata = {
        "unit": unit,
        "text": text,
        "flag": flag,
        "least": least,
        "most": most,
        "place": place,
        "error": error,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def from_mapping(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """The dataclass `kind`, whose fields are keys, from the values `given` at the place `where`.

    Raises ConfigError.
    """
    hints = typing.get_type_hints(kind)
    check_known_keys(given, hints, where, "")
    metadata = {item.name: item.metadata for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(
        **{
            name: validated(value, hints[name], metadata[name], f"{where}.{name}")
            for name, value in given.items()
        }
    )


def check_known_keys(
    given: Mapping[Any, Any], known: Mapping[str, Any], where: str, at: str
) -> None:
    """Raise ConfigError for a name that is not known; `at` goes before it."""
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {at}{near[0]}?" if near else f"known are: {', '.join(known)}"
        raise ConfigError(f"{where}: {at}{name}: there is no such key; {hint}")


def validated(value: Any, hint: Any, meta: Mapping[str, Any], source: str) -> Any:
    """`value` as the type that `hint` asks for. Raises ConfigError naming `source`."""
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint in (int, float):
        return _number(value, hint, meta, source)
    expected, good = _shape(value, hint)
    if not good:
        raise ConfigError(f"{source}: expected {expected}, found {value!r}")
    if typing.get_origin(hint) is not tuple:
        return value
    return tuple(str(part) for part in value) if str in typing.get_args(hint) else tuple(value)


def _shape(value: Any, hint: Any) -> tuple[str, bool]:
    """What `hint` expects, in words, and whether `value` is that."""
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        return f"one of {', '.join(allowed)}", value in allowed
    if typing.get_origin(hint) is tuple:
        return "a list", isinstance(value, list | tuple)
    if hint is bool:
        return "true or false", isinstance(value, bool)
    if hint is str:
        return "text (put it in quotes)", isinstance(value, str)
    switches = isinstance(value, Mapping) and all(isinstance(v, bool) for v in value.values())
    return "names with true or false", switches


def _number(value: Any, hint: Any, meta: Mapping[str, Any], source: str) -> float | int:
    unit = meta["unit"]
    whole = hint is int
    good = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not good or not abs(value) <= sys.float_info.max:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{source}: expected {kind} of {unit} without a unit, found {value!r}")
    if meta["least"] is not None and value < meta["least"]:
        raise ConfigError(f"{source}: {value} is below the least, {meta['least']} ({unit})")
    if meta["most"] is not None and value > meta["most"]:
        raise ConfigError(f"{source}: {value} is above the most, {meta['most']} ({unit})")
    if meta["error"] is not None and (error := meta["error"](value)):
        raise ConfigError(f"{source}: {error}")
    return int(value) if whole else float(value)


def read_yaml(text: str, where: str) -> Any:
    """The document in a text; a key that is there twice is an error. Raises ConfigError."""
    import yaml  # 14 ms that a daemon without a file need not spend

    class Loader(yaml.SafeLoader):
        """Lets no second value win over the first."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key_node, _ in node.value:
                name = str(key_node.value)
                if name in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{name} is there twice", problem_mark=key_node.start_mark
                    )
                seen.add(name)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        # Its own text quotes the line, which may have a key or a hash in it.
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{where}: {line}is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise ConfigError(f"{where}: is not valid YAML") from None
