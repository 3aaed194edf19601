"""Equal tuning: the same search, with the same budget, for every loss. Pure over suites and records; no torch."""
