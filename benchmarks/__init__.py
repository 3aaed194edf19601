"""Speed against peers, as ratios within one run. `python benchmarks/run.py --help`."""
