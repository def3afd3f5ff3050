"""Files and texts with which an operator configures the daemon."""

import argparse
from contextlib import suppress

from exporter import systemd
from exporter.budgets import load_budgets, rule_file
from exporter.cli import arguments
from exporter.client.environment import detect_job_id, detect_launch
from exporter.config_loader import load_config
from exporter.convert.registry import parse_entry, source_class
from exporter.errors import ConfigError
from exporter.expose.http.listeners import parse_address
from exporter.expose.web_config.schema import parse_web_config
from exporter.integrations.codecarbon.settings import read_tracker_settings
from exporter.setting import from_mapping, read_yaml, variable
from tests.fuzz.inputs import file_with

WHERE = "/etc/file.yaml"
PREFIX = variable("")


def config_file(data: bytes) -> None:
    """The settings file, with the options of intensity sources."""
    with suppress(ConfigError):
        config = load_config(file_with(data), {}, {})
        for entry in (*config.convert.sources, *config.convert.second):
            name, options = parse_entry(entry, WHERE)
            if name != "world":
                from_mapping(source_class(name), options, WHERE)


def config_variable(data: bytes) -> None:
    """Name and text of an environment variable; the text of a flag is parsed in the same way."""
    name, _, text = data.decode("utf-8", "surrogateescape").replace("\0", "").partition("=")
    with suppress(ConfigError):
        parse_address(load_config(None, {f"{PREFIX}{name}": text}, {}).expose.listen_address)


def web_config(data: bytes) -> None:
    """The web config file of Prometheus' exporter toolkit."""
    with suppress(ConfigError, UnicodeDecodeError):  # the reader of the file refuses the latter
        parse_web_config(read_yaml(data.decode(), WHERE), WHERE)


def budgets_file(data: bytes) -> None:
    """The budgets file, and the Prometheus rules that are made of it."""
    with suppress(ConfigError):
        rule_file(load_budgets(file_with(data)))


def codecarbon_settings(data: bytes) -> None:
    """Arguments of CodeCarbon's tracker as variables, one a line."""
    environment = {}
    for line in data.decode("utf-8", "surrogateescape").replace("\0", "").splitlines():
        name, _, value = line.partition("=")
        environment[f"CODECARBON_{name.upper()}"] = value
    read_tracker_settings((), (), {}, environment)


def command_line(data: bytes) -> None:
    """Texts of options that are amounts, durations, times and labels."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (
        *(arguments.count, arguments.parse_grams, arguments.parse_duration, arguments._parse_since),
        arguments.label,
    ):
        with suppress(argparse.ArgumentTypeError):
            parse(text)


def client_environment(data: bytes) -> None:
    """Variables of launchers and of systemd, one a line."""
    lines = data.decode("utf-8", "surrogateescape").replace("\0", "").splitlines()
    variables = dict(line.partition("=")[::2] for line in lines)
    detect_launch(variables, "bert")
    detect_job_id(variables)
    systemd._timeout_us(variables)


TARGETS = (
    config_file,
    config_variable,
    web_config,
    budgets_file,
    codecarbon_settings,
    command_line,
    client_environment,
)
