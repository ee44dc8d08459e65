"""Writes the pages of the site that list facts of the code: `python -m tools.docs`."""
