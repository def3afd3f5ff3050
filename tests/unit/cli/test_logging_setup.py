"""How a daemon's command ends: as an exit code, and in the log once."""

import logging

import pytest

from exporter.cli.logging_setup import run_logged
from exporter.errors import ConfigError


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_the_traceback_of_a_defect_is_logged_once(form, caplog):
    defect = KeyError("slot")
    assert run_logged(failing(defect), form) == 1
    assert [(r.levelname, r.exc_info[1]) for r in caplog.records] == [("CRITICAL", defect)]


def test_an_error_of_the_user_is_a_line_of_the_log_where_lines_are_json(caplog):
    assert run_logged(failing(ConfigError("no such zone")), "json") == ConfigError.exit_code
    assert [(r.message, r.exc_info) for r in caplog.records] == [("no such zone", None)]


def test_an_error_of_the_user_is_left_to_the_command_line_otherwise(caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match="no such zone"):
        run_logged(failing(ConfigError("no such zone")), "logfmt")
    assert caplog.records == []
