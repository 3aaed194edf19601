"""Imported by the fork server before all else, so that a cell starts in milliseconds instead of seconds. The plugins
of the suite follow, then `preloaded`.

One CPU thread until the fork: a child of a process that has run a parallel region can hang in OpenMP.
"""

import gc

gc.disable()  # nothing imported is garbage, and looking for it takes a fifth of the time; see `preloaded`

import torch  # noqa: E402

torch.set_num_threads(1)

# The first optimiser of a process imports torch._dynamo, 1.4 s: pay it here.
_weight = torch.nn.Parameter(torch.zeros(1))
torch.optim.SGD([_weight], lr=0.1)
torch.optim.AdamW([_weight], lr=0.1)

import lossbench.execution.cellrun  # noqa: E402
import lossbench.execution.ranks  # noqa: E402
import lossbench.execution.worker  # noqa: E402, F401
