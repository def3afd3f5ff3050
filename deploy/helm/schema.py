"""The JSON schema of the chart's values: types by their defaults, settings by the exporter's."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from deploy.helm.values import Value
from exporter import config
from exporter.config import NAMESPACE
from exporter.convert import registry
from exporter.sample.registry import COLLECTOR_NAMES

Schema = dict[str, Any]


def _closed(properties: Schema | None = None) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties or {}}


def _listed(properties: Schema, *required: str) -> Schema:
    return {"type": "array", "items": {**_closed(properties), "required": list(required)}}


TEXT: Schema = {"type": "string"}
AMOUNT: Schema = {"type": ["integer", "string"]}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": OBJECT}
NAMES: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
PERIOD: Schema = {"type": "string", "pattern": "^([0-9]+(ms|[smh]))*$"}
HOST_PATH: Schema = {"type": "string", "pattern": "^(/.*)?$"}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "number"],
        "pattern": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    },
}
"""Resources; the suffixes are those of k8s.io/apimachinery/pkg/api/resource, Quantity."""
AT_LEAST_ONE: Schema = {"type": "integer", "minimum": 1}
SOURCES: Schema = {"$ref": "#/definitions/sources"}
URL: Schema = {"type": "string", "pattern": "^https?://[^/@\\s]+(/\\S*)?$"}
"""Without a user and a password, which do not belong into a ConfigMap."""

TOLERATIONS = _listed(
    {
        "key": TEXT,
        "operator": {"enum": ["Exists", "Equal", "Lt", "Gt"]},
        "value": TEXT,
        "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute", ""]},
        "tolerationSeconds": {"type": "integer"},
    }
)

SPECIAL: dict[str, Schema] = {
    "profile": {"enum": ["default", "sharing", "gpu-only"]},
    "port": PORT,
    "image.repository": {"type": "string", "pattern": "^([^@\\s]+/)?[^:@/\\s]+$"},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "agentSocket.hostPath": {"type": "string", "pattern": "^/."},
    "kubelet.podResourcesPath": {"type": "string", "pattern": "^/."},
    "state.hostPath": HOST_PATH,
    "intensity.basis": {"enum": ["", "lifecycle", "direct", "unstated"]},
    "intensity.accounting": {"enum": ["", "location", "market"]},
    "intensity.standIns": SOURCES,
    "networkPolicy.apiServerPorts": {"type": "array", "minItems": 1, "items": PORT},
    "seLinuxOptions": _closed(dict.fromkeys(("user", "role", "type", "level"), TEXT)),
    "updateStrategy": _closed(
        {
            "type": {"enum": ["RollingUpdate", "OnDelete"]},
            "rollingUpdate": _closed({"maxUnavailable": AMOUNT, "maxSurge": AMOUNT}),
        }
    ),
    "livenessProbe.initialDelaySeconds": {"type": "integer", "minimum": 0},
    "extraEnv": _listed({"name": TEXT, "value": TEXT, "valueFrom": OBJECT}, "name"),
}
"""Values whose schema is more than the type of their default."""

BY_LAST_NAME: dict[str, Schema] = {
    **dict.fromkeys(("affinity", "tlsConfig", "basicAuth"), OBJECT),
    "resources": _closed({"requests": QUANTITIES, "limits": QUANTITIES, "claims": OBJECTS}),
    "tolerations": TOLERATIONS,
    **dict.fromkeys(("imagePullSecrets", "extraArgs"), NAMES),
    "namespaces": {"type": "array", "items": {"type": "string", "pattern": NAMESPACE.pattern}},
    **dict.fromkeys(("interval", "scrapeTimeout"), PERIOD),
    "sampleLimit": {"type": "integer", "minimum": 0},
}
"""The same, by the last part of their path; the API server knows objects of Kubernetes better."""

ASKED = ("URL", "PromQL")
"""Units of the options without which there is nothing to ask."""
UNSET: tuple[Any, ...] = ("", [], {})
ADDED_LATER = ("startupProbe",)
"""Not in the values of the first chart, which `helm upgrade --reuse-values` passes to this one."""
MAY_BE_NULL = (
    *("nodeSelector", "tolerations", "resources", "intensity.resources", "dashboards.annotations"),
    *("state.hostPath", "nvidia.visibleDevices"),
)
"""Of the values that are not empty: those that may be unset."""

BY_TYPE: dict[type, Schema] = {
    bool: {"type": "boolean"},
    int: AT_LEAST_ONE,
    str: {"type": "string"},
    list: OBJECTS,
    dict: TEXTS,
}


def schema(described: Sequence[Value]) -> Schema:
    """The schema of these values; what is not among them is refused."""
    root: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of emissions-exporter",
        "definitions": {"sources": _sources()},
        **_closed(),
    }
    for value in described:
        *above, name = value.path.split(".")
        place = root
        for part in above:
            if part not in ADDED_LATER:
                _require(place, part)
            place = place["properties"].setdefault(part, _closed())
        place["properties"][name] = {"description": value.text, **_one(value)}
        if value.path == "config" or (value.default not in UNSET and value.path not in MAY_BE_NULL):
            _require(place, name)
    # Charts above this one hand all charts their `global`, and switch this one by `enabled`.
    root["properties"]["global"]["additionalProperties"] = True
    root["properties"]["enabled"] = {"const": True}
    return root


def _require(place: Schema, name: str) -> None:
    """Helm takes a key without a value for one that is not to be there, default or not."""
    required = place.setdefault("required", [])
    if name not in required:
        required.append(name)


def settings() -> Schema:
    """The schema of the exporter's own settings."""
    root = _closed()
    for name, section in typing.get_type_hints(config.Config).items():
        root["properties"][name] = fields = _fields(section)
        fields.pop("required", None)  # of sections; options of a source may have no useful default
    return root


def _one(value: Value) -> Schema:
    if value.path == "config":
        return settings()
    by_name = BY_LAST_NAME.get(value.path.rpartition(".")[2], BY_TYPE[type(value.default)])
    return SPECIAL.get(value.path, by_name)


def _fields(kind: Any) -> Schema:
    """The schema of a dataclass whose fields are settings."""
    made = _closed()
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        made["properties"][item.name] = _setting(item, hints[item.name])
        if item.metadata["unit"] in ASKED and not item.default:
            _require(made, item.name)
    return made


def _setting(item: "dataclasses.Field[Any]", hint: Any) -> Schema:
    if item.name == "collectors":
        names = {name: {"type": "boolean"} for name in COLLECTOR_NAMES}
        return {**_closed(), "properties": names}
    if item.name in ("sources", "second"):
        return SOURCES
    if typing.get_origin(hint) is types.UnionType:
        inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        made = _setting(item, inner)
        return {**made, "type": [made["type"], "null"]}
    if typing.get_origin(hint) is Literal:
        return {"enum": list(typing.get_args(hint))}
    if typing.get_origin(hint) is tuple:
        form = item.metadata["form"]
        pattern = {"pattern": form.pattern} if form else {}
        return {"type": "array", "items": {"type": "string", **pattern}}
    made = URL if item.metadata["unit"] == "URL" else {"type": KINDS[hint]}
    for bound, name in (("least", "minimum"), ("most", "maximum")):
        if item.metadata.get(bound) is not None:
            made[name] = item.metadata[bound]
    return made


def _sources() -> Schema:
    """A chain of sources: names, or a name with its options."""
    options = {name: _fields(registry.source_class(name)) for name in registry.SOURCE_CLASSES}
    alone = [name for name, made in options.items() if "required" not in made]
    for name in alone:
        options[name]["type"] = ["object", "null"]
    entry = {**_closed(), "minProperties": 1, "maxProperties": 1, "properties": options}
    return {
        "type": "array",
        "items": {
            "if": {"type": "string"},
            "then": {"enum": alone},
            "else": entry,
        },
    }
