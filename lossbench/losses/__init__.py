"""Losses: one file each, found by scanning. Each is an ordinary nn.Module, useful in anybody's training loop."""
