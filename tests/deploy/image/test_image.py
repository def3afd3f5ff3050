"""What is in the image, and what is not."""

import subprocess

import pytest

from exporter import __version__
from tests.deploy.image.conftest import BASE, ENGINE, engine, inspect

MEGABYTE = 1_000_000
MOST_MEGABYTES = 60
LABELS = ("title", "description", "version", "revision", "licenses", "source", "documentation")


def inside(image: str, script: str) -> str:
    return engine("run", "--rm", "--entrypoint=sh", "--user=0", image, "-c", script)


def test_it_adds_little_to_its_base(image, capsys):
    added = (inspect(image)["Size"] - inspect(BASE)["Size"]) / MEGABYTE
    with capsys.disabled():
        print(f"\nimage: {added:.1f} MB over {BASE}")  # noqa: T201
    assert added <= MOST_MEGABYTES


@pytest.mark.parametrize("name", ["pip", "pip3", "gcc", "cc", "make"])
def test_no_installer_or_compiler_is_inside(image, name):
    assert inside(image, f"command -v {name} || echo none") == "none"


@pytest.mark.parametrize("module", ["pip", "setuptools", "ensurepip"])
def test_no_module_that_installs_can_be_imported(image, module):
    command = [ENGINE, "run", "--rm", "--entrypoint=python", image, "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_tests_and_sources_of_dependencies_are_left_out(image):
    package = "/opt/emissions-exporter"
    names = "-name tests -o -name '*.pyi' -o -name '*.pyx' -o -name '*.c'"
    assert inside(image, rf"find {package} \( {names} \) | grep -v /exporter/ || true") == ""


def test_it_is_nobody_in_particular_by_default(image):
    assert inspect(image)["Config"]["User"] == "65532:65532"


@pytest.mark.parametrize("label", LABELS)
def test_it_says_what_it_is(image, label):
    assert inspect(image)["Config"]["Labels"][f"org.opencontainers.image.{label}"]


def test_its_version_is_that_of_the_package(image):
    assert inspect(image)["Config"]["Labels"]["org.opencontainers.image.version"] == __version__
    said = engine("run", "--rm", image, "--version")
    commit = inspect(image)["Config"]["Labels"]["org.opencontainers.image.revision"]
    assert said == f"emissions-exporter {__version__} (revision {commit})"


def test_the_kubelet_can_be_asked(image):
    assert inside(image, "/opt/emissions-exporter/bin/python -c 'import h2' && echo yes") == "yes"
