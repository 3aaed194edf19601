"""Views of a leaderboard: terminal, Markdown, CSV, LaTeX, JSON."""
