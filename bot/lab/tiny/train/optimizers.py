"""Muon for the matrices inside the layers, AdamW for the rest, and a moving average of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

# Newton-Schulz coefficients of Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon/).
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
_ITERATIONS: Final = 5
_MOMENTUM: Final = 0.95
# Updates of about AdamW's size for a matrix of any shape (arXiv 2502.16982).
_LIKE_ADAM: Final = 0.2
_foreach: Any = torch  # its operations on lists have no public names


def orthogonal(stack: Tensor) -> Tensor:
    """Bring each matrix of [count, rows, columns] near the nearest orthogonal one.

    In bfloat16, which is enough, but on a CPU, where many compute that in a plain loop.
    """
    a, b, c = _QUINTIC
    x = stack.float() if stack.device.type == "cpu" else stack.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal; matrices of one shape in one batched product."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            shapes[matrix.shape].append(matrix)
        groups = [{"params": list(group)} for group in shapes.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update."""
        del closure
        for group in self.param_groups:
            matrices: list[Any] = group["params"]
            for matrix in matrices:
                self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            momenta = [self.state[matrix]["momentum"] for matrix in matrices]
            gradients = [matrix.grad for matrix in matrices]
            _foreach._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
            stack = torch.stack(gradients).lerp(torch.stack(momenta), _MOMENTUM)  # Nesterov's
            updates = orthogonal(stack).to(matrices[0].dtype)
            size = _LIKE_ADAM * max(matrices[0].shape) ** 0.5
            _foreach._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            _foreach._foreach_add_(matrices, updates.unbind(), alpha=-group["lr"] * size)


def layered_matrices(named: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the layers' matrices, modulation left out, and all other parameters."""
    inside: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in named.items():
        layered = any(stem in name for stem in (".layers.", ".transformer_blocks.", ".blocks."))
        is_matrix = layered and parameter.ndim == 2 and "_mod." not in name  # noqa: PLR2004
        (inside if is_matrix else rest).append(parameter)
    return inside, rest


def painter_optimizers(painter: Any, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices and AdamW for all else."""
    inside, rest = layered_matrices(painter.trained())
    return [
        Muon(inside, rate, 0.01),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
    ]


class Average:
    """An exponential moving average of a module's parameters, short at first."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.values = [p.detach().clone() for p in module.parameters()]
        self._live = [p.detach() for p in module.parameters()]
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the module as it is."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        _foreach._foreach_lerp_(self.values, self._live, 1 - decay)

    @torch.no_grad()
    def write_to(self, module: nn.Module) -> None:
        """Give `module`, of the same class, the averaged parameters."""
        for parameter, value in zip(module.parameters(), self.values, strict=True):
            parameter.copy_(value)
