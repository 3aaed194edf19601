"""lossbench: a benchmark harness for imbalance losses in semantic segmentation.

Importing this package is cheap on purpose: it pulls in neither torch nor pandas.
"""

__version__ = "0.1.0"

#: Bumped by hand whenever the engine changes in a way that can change a result (sampling order,
#: augmentation, optimiser, evaluation rule). A record made under another PROTOCOL is shown as stale.
PROTOCOL = 2
