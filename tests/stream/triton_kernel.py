"""A kernel of Triton's, which reads its own source: a module of its own without annotations."""

import triton
import triton.language as tl


@triton.jit
def widen(numbers, out):
    at = tl.arange(0, 128)
    tl.store(out + at, tl.load(numbers + at).to(tl.float32))
