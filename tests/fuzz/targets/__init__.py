"""All targets by name. A target lets through only exceptions that its parser does not document."""

from collections.abc import Mapping

from tests.fuzz.attempt import Target
from tests.fuzz.targets import gpus, grids, kernel, kubernetes, records, settings, state, web

TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for module in (web, settings, grids, kubernetes, kernel, gpus, records, state)
    for target in module.TARGETS
}
