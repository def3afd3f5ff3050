"""Model cards: what a record says in one, merging it into one, and mistakes found in one."""
