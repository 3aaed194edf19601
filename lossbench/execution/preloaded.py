"""Imported by the fork server after the plugins: what every cell would else do again, done once before the fork."""

import atexit
import gc
import os

import torch

from lossbench import provenance
from lossbench.execution import devices
from lossbench.execution.plugins import packaged_registries
from lossbench.execution.spec import FORK_SERVER
from lossbench.training.seeding import seed_everything

packaged_registries()
provenance.installation()

# The first step of a process sets up autograd and the convolution library. Only without an accelerator: there it
# could start the driver, which must not be running when a process forks.
if not devices.may_have_accelerator():
    seed_everything(0)  # the first time is slow; every cell seeds for itself
    _layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    _layers(torch.zeros(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)).mean().backward()

# What is here stays: a collection in a child would touch, and so copy, every page of it.
gc.collect()
gc.freeze()
gc.enable()

if os.environ.pop(FORK_SERVER, None):
    _server = os.getpid()

    def _leave() -> None:
        """End the server without tearing down what it imported: frozen objects stay, and extension modules would tell
        the user's terminal of each as a leak. Not in a child that runs its parent's exit functions."""
        if os.getpid() == _server:
            os._exit(0)

    atexit.register(_leave)
