"""Views of a leaderboard and of a record: terminal, Markdown, CSV, LaTeX, JSON.

`grid` says which columns and words a table has, the others draw it.
"""
