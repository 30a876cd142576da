"""Colours of all figures: told apart on white and on black, and by those who see few colours."""

ACCENT = "#3f7fc1"
COLOURS = (ACCENT, "#d5671b", "#1a9e77", "#c85fa0", "#a58a10", "#7d6fd0", "#c2413f", "#7b8794")
