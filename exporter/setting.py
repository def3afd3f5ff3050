"""Declaration of one setting, and validation of its value."""

import dataclasses
import difflib
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal, NamedTuple, TypeVar

from exporter.errors import ConfigError

T = TypeVar("T")


class EntryForm(NamedTuple):
    """Form of the entries of a list: a description, and a regular expression for an entry."""

    description: str
    pattern: str
    """With `^` and `$`, since the schema of the Helm chart contains it too."""


ENVIRONMENT_PREFIX = "EMISSIONS_EXPORTER_"


def variable(name: str) -> str:
    """Return the name of the environment variable for the setting `section.key`."""
    return f"{ENVIRONMENT_PREFIX}{name.replace('.', '_')}".upper()


def ways_to_set(name: str, value: str, *, flag: str = "", file: str = "") -> str:
    """Describe how to set `section.key` to `value`: by flag, variable or settings file.

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
    form: EntryForm | None = None,
) -> Any:
    """Declare a setting as a dataclass field.

    Arguments: the default, the unit ("" for none), the help text, the flag without dashes, the
    minimum and maximum of a number, and what a path must refer to (`place`). `error` returns why a
    number is invalid, or "". `form` is the form of the entries of a list.
    """
    metadata = {
        "unit": unit,
        "text": text,
        "flag": flag,
        "least": least,
        "most": most,
        "place": place,
        "error": error,
        "form": form,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def from_mapping(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `kind` from the mapping `given`; `where` prefixes error messages.

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
    """Raise ConfigError for an unknown key; `at` is the path of its section, with a dot."""
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {at}{near[0]}?" if near else f"known keys: {', '.join(known)}"
        raise ConfigError(f"{where}: {at}{name}: there is no such key; {hint}")


def validated(value: Any, hint: Any, meta: Mapping[str, Any], source: str) -> Any:
    """Return `value` as the type `hint`. Raises ConfigError that names `source`."""
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint in (int, float):
        return _number(value, hint, meta, source)
    expected, is_valid = _shape(value, hint)
    if not is_valid:
        raise ConfigError(f"{source}: expected {expected}, found {value!r}")
    if typing.get_origin(hint) is not tuple:
        return value
    if str not in typing.get_args(hint):
        return tuple(value)
    entries = tuple(str(part) for part in value)
    form = meta["form"]
    for entry in entries:
        if form is not None and (not re.search(form.pattern, entry) or "\n" in entry):
            raise ConfigError(f"{source}: expected {form.description}, found {entry!r}")
    return entries


def _shape(value: Any, hint: Any) -> tuple[str, bool]:
    """Return a description of the type `hint`, and whether `value` has this type."""
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
    is_integer = hint is int
    is_valid = isinstance(value, int) or (isinstance(value, float) and not is_integer)
    if isinstance(value, bool) or not is_valid or not abs(value) <= sys.float_info.max:
        kind = "a whole number" if is_integer else "a number"
        of_unit = f" of {unit} without a unit" if unit not in ("", "ratio") else ""
        raise ConfigError(f"{source}: expected {kind}{of_unit}, found {value!r}")
    if meta["least"] is not None and value < meta["least"]:
        raise ConfigError(f"{source}: {value} is below the minimum, {meta['least']} ({unit})")
    if meta["most"] is not None and value > meta["most"]:
        raise ConfigError(f"{source}: {value} is above the maximum, {meta['most']} ({unit})")
    if meta["error"] is not None and (error := meta["error"](value)):
        raise ConfigError(f"{source}: {error}")
    return int(value) if is_integer else float(value)


BOOLEAN_TAG, TEXT_TAG = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"
INTEGER_TAG = "tag:yaml.org,2002:int"
MAX_NUMBER_CHARACTERS = 1000
"""More than every number that a float can hold has; Python does not print much longer ones."""


def read_yaml(text: str, where: str) -> Any:
    """Parse a YAML document; a duplicate key is an error. Raises ConfigError."""
    import yaml  # 14 ms that a daemon without a file does not need

    class Loader(yaml.SafeLoader):
        """Loader that rejects duplicate keys and numbers that cannot be printed."""

        def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
            if node.tag == INTEGER_TAG and len(node.value) > MAX_NUMBER_CHARACTERS:
                raise yaml.MarkedYAMLError(
                    problem=f"a number has {len(node.value)} characters",
                    problem_mark=node.start_mark,
                )
            return super().construct_scalar(node)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key_node, _ in node.value:
                if key_node.tag == BOOLEAN_TAG:  # a key such as `on` or `no` is meant as a word
                    key_node.tag = TEXT_TAG
                name = str(key_node.value)
                if name in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"duplicate key {name}", problem_mark=key_node.start_mark
                    )
                seen.add(name)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        # The text of the YAML error quotes the line, which may contain a secret.
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{where}: {line}is not valid YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{where}: is not valid YAML: it is nested too deeply") from None
    except Exception:  # noqa: BLE001  a value that does not match its tag raises any error
        raise ConfigError(
            f"{where}: is not valid YAML: a value is not of the type that its form or tag says, "
            "such as an impossible date or `!!int x`; put it in quotes if it is a text"
        ) from None
