"""What a record says in words about how its run was carried out, where that may bear on its number."""

from __future__ import annotations

from lossbench.protocol import Protocol


def sharing(protocol: Protocol, *, split: int, devices: int) -> list[str]:
    """Of micro-batches smaller than the protocol's: after want of memory, or on several devices. The effective batch is
    the same, but BatchNorm normalises over what one device sees at a time."""
    whole = protocol.batch_size // protocol.accumulate // devices
    notes = []
    if devices > 1:
        over = "all of them together" if protocol.sync_batchnorm else "each by itself"
        notes.append(
            f"ran on {devices} devices with micro-batches of {whole // split} of {protocol.batch_size} images on each; "
            f"BatchNorm normalised over {over}"
        )
    if split > 1:
        notes.append(
            f"out of memory: ran with micro-batches of {whole // split} instead of {whole} images "
            "(same effective batch); BatchNorm saw the smaller ones"
        )
    return notes


def resumption(step: int, *, was: int, now: int) -> str:
    """Of a run that went on from a checkpoint, made on `was` devices, on `now` of them."""
    note = f"resumed from a checkpoint at step {step}"
    return note if was == now else f"{note}, made on {was} device{'s' if was > 1 else ''}"
