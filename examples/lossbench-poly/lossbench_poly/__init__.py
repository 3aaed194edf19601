"""Poly-2 for lossbench."""

from lossbench_poly.poly2 import Poly2Loss as Poly2Loss
