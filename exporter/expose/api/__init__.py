"""Questions and answers in JSON: of the world, and of programs of this machine."""
