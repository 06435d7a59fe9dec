"""Attention over all tokens of one picture and branch, by the fastest kernel of this machine."""

from __future__ import annotations

import time
from typing import Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

_ALL: Final = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
_order: list[SDPBackend] = []


@torch.library.custom_op("qwen_stream::attend", mutates_args=())
def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _kernel(query, key, value)


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    del key, value
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k / sqrt(head_dim)) v; all are [tokens, heads, head_dim]."""
    if torch.compiler.is_compiling():
        # One opaque step: which kernel runs is decided outside the graph, for any length.
        return _attend(query, key, value)
    return _kernel(query, key, value)


def _kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    if _order and q.is_cuda:
        with sdpa_kernel(_order, set_priority=True):
            out = scaled_dot_product_attention(q, k, v)
    else:
        out = scaled_dot_product_attention(q, k, v)
    return out[0].transpose(0, 1).contiguous()


def choose_kernel(tokens: int, heads: int, head_dim: int, device: torch.device) -> dict[str, float]:
    """Time the CUDA kernels on the real shape and use the fastest first; return seconds by name."""
    shape = (tokens, heads, head_dim)
    x = torch.randn(shape, device=device, dtype=torch.bfloat16)
    seconds: dict[str, float] = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        _order[:] = [backend]
        try:
            for _ in range(2):
                _kernel(x, x, x)
            torch.cuda.synchronize(device)
            started = time.perf_counter()
            for _ in range(5):
                _kernel(x, x, x)
            torch.cuda.synchronize(device)
        except RuntimeError:
            continue  # not for this card or build
        seconds[backend.name] = (time.perf_counter() - started) / 5
    order = sorted(_ALL, key=lambda b: seconds.get(b.name, float("inf")))
    _order[:] = order
    return seconds
