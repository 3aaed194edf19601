"""Datasets: one file each, found by scanning; the contract is in `base`, that of published archives in `_official`."""
