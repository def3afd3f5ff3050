"""Settings: sources, precedence and validation."""

import dataclasses

import pytest

from exporter import config
from exporter.config import Config
from exporter.config_loader import load_config
from exporter.errors import ConfigError

KEYS = [
    (section.name, item)
    for section in dataclasses.fields(Config)
    for item in dataclasses.fields(section.default_factory)
]


@pytest.fixture
def read(tmp_path):
    """Load settings from the text of a file."""

    def settings(text, environment=None, flags=None):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_config(str(path), environment or {}, flags or {})

    return settings


@pytest.fixture
def refusal(read):
    """Return the error for the text of a file."""

    def text_of(text):
        with pytest.raises(ConfigError) as error:
            read(text)
        return str(error.value)

    return text_of


def test_without_file_variables_and_flags_every_setting_has_its_default():
    settings = load_config(None, {}, {})
    assert settings.sample == config.SampleConfig()
    assert settings.attribute == config.AttributeConfig()
    assert settings.convert == config.ConvertConfig()
    assert settings.expose.listen_address == ":10680"


def test_default_paths_depend_on_the_user():
    settings = load_config(None, {}, {})
    assert settings.account.state_directory.endswith("emissions-exporter")
    assert settings.expose.socket.endswith("agent.sock")


def test_a_user_without_a_home_has_no_default_state_directory(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert config.default_state_directory() == ""


@pytest.mark.parametrize("text", ["", "# nothing\n", "sample:\n", "{}"])
def test_an_empty_file_or_section_changes_nothing(read, text):
    assert read(text) == load_config(None, {}, {})


def test_a_file_sets_values(read):
    settings = read("convert: {zone: DE, grams_per_kwh: 12}\nsample: {collectors: {rapl: false}}")
    assert (settings.convert.zone, settings.convert.grams_per_kwh) == ("DE", 12.0)
    assert settings.sample.collectors == {"rapl": False}


def test_the_environment_takes_precedence_over_the_file(read):
    settings = read("convert: {zone: DE, pue: 1.1}", {"EMISSIONS_EXPORTER_CONVERT_ZONE": "FR"})
    assert (settings.convert.zone, settings.convert.pue) == ("FR", 1.1)


def test_a_flag_takes_precedence_over_the_environment(read):
    settings = read(
        "sample: {interval_seconds: 2}",
        {"EMISSIONS_EXPORTER_SAMPLE_INTERVAL_SECONDS": "3"},
        {("sample", "interval_seconds"): 4.0},
    )
    assert settings.sample.interval_seconds == 4


@pytest.mark.parametrize(
    ("variable", "text", "section", "name", "value"),
    [
        ("CONVERT_PUE", "1.25", "convert", "pue", 1.25),
        ("CONVERT_GRAMS_PER_KWH", "", "convert", "grams_per_kwh", None),
        ("CONVERT_ZONE", "NO", "convert", "zone", "NO"),
        ("ATTRIBUTE_READ_ENVIRONMENTS", "false", "attribute", "read_environments", False),
        (
            "ATTRIBUTE_EXPORTED_LABELS",
            "team, model,",
            "attribute",
            "exported_labels",
            ("team", "model"),
        ),
        ("SAMPLE_COLLECTORS", "{rapl: false}", "sample", "collectors", {"rapl": False}),
    ],
)
def test_a_variable_has_the_type_of_its_key(variable, text, section, name, value):
    settings = load_config(None, {f"EMISSIONS_EXPORTER_{variable}": text}, {})
    assert getattr(getattr(settings, section), name) == value


def test_an_invalid_variable_is_named():
    with pytest.raises(ConfigError, match="EMISSIONS_EXPORTER_SAMPLE_INTERVAL_SECONDS: expected"):
        load_config(None, {"EMISSIONS_EXPORTER_SAMPLE_INTERVAL_SECONDS": "often"}, {})


def test_a_variable_that_is_not_yaml_is_named():
    with pytest.raises(ConfigError, match="CONVERT_PUE: line 1: is not valid YAML"):
        load_config(None, {"EMISSIONS_EXPORTER_CONVERT_PUE": "[1"}, {})


def test_an_invalid_flag_is_named():
    with pytest.raises(ConfigError, match=r"--sample\.interval: 0\.01 is below the minimum"):
        load_config(None, {}, {("sample", "interval_seconds"): 0.01})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smaple: {}", "smaple: there is no such key; did you mean sample?"),
        ("convert: {zon: DE}", "convert.zon: there is no such key; did you mean convert.zone?"),
        ("convert: {qqq: 1}", "convert.qqq: there is no such key; known keys: zone, "),
        ("sample: {collectors: {rpal: false}}", "did you mean sample.collectors.rapl?"),
        ("1: {}", "1: there is no such key; known keys: sample, attribute, convert"),
        ("sample: fast", "sample: expected keys with values, found 'fast'"),
        ("convert: [zone]", "convert: expected keys with values, found ['zone']"),
        ("just text", "expected sections (sample, attribute, convert, account, expose)"),
        ("sample: {interval_seconds: 1s}", "expected a number of seconds without a unit"),
        ("sample: {interval_seconds: true}", "expected a number of seconds"),
        ("sample: {interval_seconds: .nan}", "expected a number of seconds"),
        ("sample: {interval_seconds: .inf}", "expected a number of seconds"),
        ("account: {keep_hours_days: 1" + "0" * 400 + "}", "expected a number of days"),
        ("sample: {interval_seconds: 0}", "sample.interval_seconds: 0 is below the minimum, 0.1"),
        ("convert: {pue: 0.5}", "convert.pue: 0.5 is below the minimum, 1 (ratio)"),
        ("convert: {pue: 15}", "convert.pue: 15 is above the maximum, 5 (ratio)"),
        ("attribute: {max_runs: 1.5}", "attribute.max_runs: expected a whole number of runs"),
        ("attribute: {read_environments: 1}", "expected true or false, found 1"),
        ("attribute: {exported_labels: team}", "expected a list, found 'team'"),
        (
            "attribute: {namespaces: [ml, Team_A]}",
            "(lowercase letters, digits and '-'), found 'Team_A'",
        ),
        ("attribute: {excluded_namespaces: [kube-*]}", "found 'kube-*'"),
        ("attribute: {excluded_namespaces: ['']}", "found ''"),
        ('attribute: {namespaces: ["a\\n"]}', "found 'a\\n'"),
        (f"attribute: {{namespaces: [{'a' * 64}]}}", "attribute.namespaces: expected names"),
        ("convert: {zone: NO}", "convert.zone: expected text (put it in quotes), found False"),
        ("convert: {basis: gross}", "expected one of lifecycle, direct, unstated, found 'gross'"),
        ("sample: {collectors: [rapl]}", "expected names with true or false, found ['rapl']"),
        ("sample: {collectors: {rapl: off please}}", "expected names with true or false"),
        ("a: [", "is not valid YAML"),
        ("sample: {interval_seconds: !!timestamp e%ta}", "is not valid YAML"),
        ("sample: {interval_seconds: !!bool maybe}", "put it in quotes if it is a text"),
        ("sample: {interval_seconds: !!int }", "is not valid YAML"),
        ("a: 2024-13-45", "is not valid YAML"),
    ],
)
def test_an_invalid_setting_is_refused_with_its_key(refusal, text, says):
    message = refusal(text)
    assert says in message
    assert "config.yaml: " in message
    assert "\n" not in message


def test_a_file_that_is_absent_is_refused():
    with pytest.raises(ConfigError, match=r"/nowhere\.yaml: cannot be read: No such file"):
        load_config("/nowhere.yaml", {}, {})


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(str(path), {}, {})


@pytest.mark.parametrize(("section", "item"), KEYS, ids=lambda part: getattr(part, "name", part))
def test_every_key_has_a_help_text(section, item):
    assert item.metadata["text"].endswith(".")


@pytest.mark.parametrize(("section", "item"), KEYS, ids=lambda part: getattr(part, "name", part))
def test_every_number_has_a_unit(section, item):
    is_number = item.type in (int, float, float | None)
    assert bool(item.metadata["unit"]) >= is_number


def test_every_default_is_valid(read):
    for section, item in KEYS:
        default = item.default_factory() if callable(item.default_factory) else item.default
        value = list(default) if isinstance(default, tuple) else default
        if value is not None:
            read("{}", flags={(section, item.name): value})


def test_no_flag_is_given_twice():
    flags = [item.metadata["flag"] for _, item in KEYS if item.metadata["flag"]]
    assert len(flags) == len(set(flags))


def test_names_of_namespaces_are_accepted_as_kubernetes_accepts_them(read):
    names = ("a", "7", "kube-system", "team-a--b", "a" * 63)
    assert read(f"attribute: {{namespaces: [{', '.join(names)}]}}").attribute.namespaces == names


def test_a_mistyped_variable_is_an_error_and_one_of_kubernetes_is_not():
    load_config(None, {"EMISSIONS_EXPORTER_PORT": "tcp://10.0.0.1:10680"}, {})
    with pytest.raises(ConfigError, match="EMISSIONS_EXPORTER_CONVERT_ZONE"):
        load_config(None, {"EMISSIONS_EXPORTER_CONVERT_ZON": "DE"}, {})


def test_a_relative_path_in_the_file_is_relative_to_the_file(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "c.yaml").write_text(
        "sample: {replay: host.json}\n"
        "attribute: {jobs_directory: /run/jobs}\n"
        "convert:\n"
        "  file: ../grid.csv\n"
        "  sources:\n"
        "  - electricity_maps: {token_file: token}\n"
        "  - prometheus: {url: 'http://x', query: up, token_file: /abs/token}\n"
        "  - file: {path: own.csv}\n"
        "  - table\n"
        "account: {state_directory: state}\n"
        "expose: {web_config_file: web.yml, socket: ''}\n"
    )
    monkeypatch.chdir(tmp_path)
    for path in ("etc/c.yaml", f"{tmp_path}/etc/c.yaml"):
        settings = load_config(path, {}, {})
        assert settings.expose.web_config_file == f"{tmp_path}/etc/web.yml"
        assert settings.sample.replay == f"{tmp_path}/etc/host.json"
        assert settings.account.state_directory == f"{tmp_path}/etc/state"
        assert settings.attribute.jobs_directory == "/run/jobs"
        assert settings.convert.file == f"{tmp_path}/etc/../grid.csv"
        assert settings.expose.socket == load_config(None, {}, {}).expose.socket
        assert settings.convert.sources == (
            {"electricity_maps": {"token_file": f"{tmp_path}/etc/token"}},
            {"prometheus": {"url": "http://x", "query": "up", "token_file": "/abs/token"}},
            {"file": {"path": f"{tmp_path}/etc/own.csv"}},
            "table",
        )


def test_a_relative_path_of_a_flag_or_variable_is_relative_to_the_current_directory(read):
    variable = {"EMISSIONS_EXPORTER_CONVERT_FILE": "grid.csv"}
    settings = read("convert: {file: a}", variable, {("account", "state_directory"): "state"})
    assert (settings.convert.file, settings.account.state_directory) == ("grid.csv", "state")


def test_overridden_settings_of_the_file_are_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "account: {state_directory: /data}\n"
        "expose: {socket: /same, node: a, listen_address: 5}\n"
        "convert: {zone: DE, pue: 1.2}\n"
    )
    environment = {
        "EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY": "/var/lib/x",
        "EMISSIONS_EXPORTER_EXPOSE_SOCKET": "/same",
        "EMISSIONS_EXPORTER_CONVERT_ZONE": "FR",
        "EMISSIONS_EXPORTER_CONVERT_PUE": "1.2",
        "EMISSIONS_EXPORTER_EXPOSE_LISTEN_ADDRESS": ":9",
    }
    overridden = []
    load_config(str(path), environment, {("convert", "zone"): "IT"}, overridden)
    assert overridden == [
        ("convert.zone", "--convert.zone"),
        ("account.state_directory", "EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY"),
        ("expose.listen_address", "EMISSIONS_EXPORTER_EXPOSE_LISTEN_ADDRESS"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "convert: {pue: 1.3}\naccount: {}\nconvert: {zone: DE}\n",
            "line 3: .*duplicate key convert",
        ),
        ("convert:\n  zone: DE\n  pue: 1.3\n  zone: FR\n", "line 4: .*duplicate key zone"),
        (
            "convert:\n  sources:\n    - file: {path: a, path: b}\n",
            "line 3: .*duplicate key path",
        ),
    ],
)
def test_a_duplicate_key_is_an_error(text, message, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(file), {}, {})


def test_anchors_may_still_be_merged(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "convert:\n"
        "  sources: [static: &own {grams_per_kwh: 12, source: us}]\n"
        "  second: [static: {<<: *own, grams_per_kwh: 9}]\n"
    )
    settings = load_config(str(file), {}, {}).convert
    assert settings.sources == ({"static": {"grams_per_kwh": 12, "source": "us"}},)
    assert settings.second == ({"static": {"grams_per_kwh": 9, "source": "us"}},)
