"""What is said to who runs the program: in the log `emissions`, as warnings."""


def warn(text: str, *values: object) -> None:
    """Log a warning."""
    import logging  # 10 ms that a program without trouble need not spend

    logging.getLogger("emissions").warning(text, *values)
