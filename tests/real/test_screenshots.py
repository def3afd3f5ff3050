"""The scene of the pictures in the documentation, whose drawing needs a person to look at it."""

from pathlib import Path

import pytest

from tests.real.parts import get
from tests.screenshots.scene import NODE, TRAINING, scene

pytestmark = [pytest.mark.real, pytest.mark.beside]


def test_the_scene_serves_the_pages_that_are_drawn(tmp_path: Path) -> None:
    with scene(tmp_path) as url:
        assert NODE in get(url).decode()
        assert "Budget and forecast" in get(f"{url}runs/{TRAINING}").decode()
