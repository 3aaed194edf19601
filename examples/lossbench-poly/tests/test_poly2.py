"""The formula. (That the loss keeps its contract: `pytest --pyargs lossbench.conformance --loss lossbench_poly`.)"""

import math

import torch
from lossbench_poly import Poly2Loss
from torch.nn import functional


def test_it_is_what_a_plain_loop_gives() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(3, (2, 4, 5))
    target[0, 0] = 255
    values = []
    for n, row, column in (target != 255).nonzero().tolist():
        p = logits[n, :, row, column].softmax(0)[target[n, row, column]].item()
        values.append(-math.log(p) + 0.5 * (1 - p) + 2.0 * (1 - p) ** 2)
    expected = sum(values) / len(values)
    assert math.isclose(Poly2Loss(epsilon1=0.5, epsilon2=2.0)(logits, target).item(), expected, rel_tol=1e-12)


def test_without_its_terms_it_is_cross_entropy() -> None:
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    loss = Poly2Loss(epsilon1=0.0)(logits, target)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target))
