"""Training: loop, Monte-Carlo resampling, evaluation, checkpoints."""
