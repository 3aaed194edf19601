"""Backbones: one file each, found by scanning; the contract is in `base`."""
