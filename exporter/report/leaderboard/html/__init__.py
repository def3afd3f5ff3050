"""The board as one file of HTML, with drawings of our own and no script."""
