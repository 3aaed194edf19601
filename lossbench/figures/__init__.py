"""Figures for papers, drawn with matplotlib: sizes in inches, 8 pt, colour-blind safe.

`style` has the looks, `choice` the runs that may share a figure, `saving` the files; each figure has a file of its own
that turns runs into plain numbers first (what `--json` prints) and those into a drawing.
"""
