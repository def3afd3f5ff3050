"""The parts of the pages, one file for each question that a person asks."""
