"""Decode-once cache, augmentation, batches."""
