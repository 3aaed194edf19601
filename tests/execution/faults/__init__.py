"""Faults, each produced for real: see docs/reliability.md."""
