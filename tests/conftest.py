"""How many examples a property is tried with: `make` takes few, CI takes all."""

import contextlib

with contextlib.suppress(ModuleNotFoundError):  # not in the environments of tests/ml
    from hypothesis import settings

    # How long an example takes says nothing where tests share two cores.
    settings.register_profile("few", max_examples=15, stateful_step_count=20, deadline=None)
    settings.register_profile("default", deadline=None)
    settings.load_profile("default")
