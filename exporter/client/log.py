"""Messages to the user of the program, through the logger `emissions`."""

import sys


def warn(text: str, *values: object) -> None:
    """Log a warning."""
    import logging  # takes 10 ms, so it is imported only if there is a warning

    logging.getLogger("emissions").warning(text, *values)


def inform(text: str, *values: object) -> None:
    """Log an informational message, if the program uses `logging`; it would not be shown else."""
    if (logging := sys.modules.get("logging")) is not None:
        logging.getLogger("emissions").info(text, *values)
