"""What is said to who runs the program, in the log `emissions`."""

import sys


def warn(text: str, *values: object) -> None:
    """Log a warning."""
    import logging  # 10 ms that a program without trouble need not spend

    logging.getLogger("emissions").warning(text, *values)


def inform(text: str, *values: object) -> None:
    """Log for a program that uses logging; others would not show it."""
    if (logging := sys.modules.get("logging")) is not None:
        logging.getLogger("emissions").info(text, *values)
