"""The engine's compiled kernels for a card that is not here: `python -m tests.stream.offline 86`.

PyTorch's CUDA build and Triton's own ptxas suffice: the block and the widening are traced on tensors
without data, inductor writes their Triton kernels, and each is compiled for the named compute
capability. It tells what does not compile, not how fast it is. Needs `stand_in.c` preloaded, since
inductor asks the CUDA runtime which device is current.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

CAPABILITY = int(sys.argv[1])
# Multiprocessors, and threads that one holds.
SIZES = {80: (108, 2048), 86: (82, 1536), 89: (128, 1536), 90: (132, 2048), 120: (170, 1536)}
MULTIPROCESSORS, THREADS = SIZES[CAPABILITY]
# A program's, of CUDA's table of compute capabilities: what a multiprocessor has, less 1 KiB.
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}.get(CAPABILITY, 99 * 1024)
FULL = (60, 3072, 24)
KERNEL = re.compile(r"async_compile\.triton\('[^']+', '''(.*?)''', device_str='cuda'\)", re.DOTALL)


class Properties:
    name = "a card that is not here"
    major, minor = CAPABILITY // 10, CAPABILITY % 10
    multi_processor_count = MULTIPROCESSORS
    total_memory = 24 * 2**30
    warp_size = 32
    regs_per_multiprocessor = 65536
    max_threads_per_multi_processor = THREADS
    max_threads_per_block = 1024
    shared_memory_per_block = 49152
    shared_memory_per_block_optin = SHARED_BYTES
    L2_cache_size = 64 * 2**20
    gcnArchName = ""  # noqa: N815 - torch asks for this name


def pretend() -> Any:
    """Put the card in the place of the one that torch, inductor and Triton would ask."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    cuda: Any = torch.cuda
    properties = Properties()
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": properties,
        "get_device_capability": (properties.major, properties.minor),
        "get_device_name": properties.name,
        "is_initialized": False,
        "synchronize": None,
        "set_rng_state": None,
        "_lazy_init": None,
    }
    for name, answer in answers.items():
        setattr(cuda, name, lambda *_, answer=answer, **__: answer)
    cuda.get_rng_state = lambda *_, **__: torch.zeros(16, dtype=torch.uint8)
    torch.compiler.is_compiling = lambda: True  # the block has a form for the compiler

    class Utils:
        @staticmethod
        def get_device_properties(_: int) -> dict[str, int]:
            return {
                "max_shared_mem": SHARED_BYTES,
                "multiprocessor_count": MULTIPROCESSORS,
                "max_num_regs": 65536,
                "warpSize": 32,
            }

    class Driver:
        utils = Utils

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", CAPABILITY, 32)

        def get_current_device(self) -> int:
            return 0

        def set_current_device(self, _: int) -> None: ...

        def get_current_stream(self, _: int = 0) -> int:
            return 0

        def get_device_capability(self, _: int = 0) -> tuple[int, int]:
            return properties.major, properties.minor

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def get_benchmarker(self) -> Any:
            return lambda *_, **__: [0.0] * 3

        def get_device_interface(self) -> Any:
            return cuda

        @staticmethod
        def is_active() -> bool:
            return True

    driver.set_active(Driver())
    return properties


def pretend_to_inductor(properties: Any) -> list[str]:
    """Let inductor write code for the card; return the list that its code is put into."""
    import torch._dynamo.device_interface as interface
    import torch._dynamo.utils as dynamo_utils
    import torch._inductor.runtime.triton_helpers as helpers
    from torch._inductor import compile_fx, config, graph
    from torch._inductor.runtime.hints import DeviceProperties
    from torch._subclasses import fake_tensor

    @contextlib.contextmanager
    def nothing(*_: Any, **__: Any) -> Any:
        yield

    helpers.set_driver_to_gpu = lambda: None
    dynamo_utils.preserve_rng_state = nothing
    for module in (compile_fx, getattr(compile_fx, "dynamo_utils", None)):
        if hasattr(module, "preserve_rng_state"):
            module.preserve_rng_state = nothing
    cuda = interface.CudaInterface
    cuda.get_device_properties = staticmethod(lambda _=None: properties)
    cuda.Worker.get_device_properties = staticmethod(lambda _=None: properties)
    cuda.is_available = staticmethod(lambda: True)
    cuda.get_compute_capability = staticmethod(lambda _=None: CAPABILITY)
    card = DeviceProperties(
        "cuda", 0, MULTIPROCESSORS, CAPABILITY, properties.major, 65536, THREADS, 1024, 32
    )
    host = DeviceProperties("cpu", None, 2, 0)
    DeviceProperties.create = classmethod(lambda _, d: card if d.type == "cuda" else host)
    config.compile_threads = 1
    config.force_disable_caches = True
    fake_tensor.init_gpu_context = lambda *_: None
    written: list[str] = []

    def stop_with_code(self: Any) -> Any:
        code = self.codegen()[0]
        written.append(getattr(code, "value", str(code)))
        raise InterruptedError

    graph.GraphLowering.compile_to_module = stop_with_code
    return written


def traced(variant: str) -> tuple[Any, list[torch.Tensor]]:
    """Return a function of the engine and tensors of its real sizes."""
    import bot.engine.stream.block as blocks
    from bot.engine.stream import int8
    from bot.engine.stream.layout import Geometry
    from bot.engine.stream.quantize import Matmul, dequantize_bytes

    geometry = Geometry(*FULL)
    dim = geometry.dim
    int8.kernels_work = lambda _: True  # as on the card; it cannot be tried here

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(*shape, device="cuda:0", dtype=dtype)

    if variant == "widen":

        def widen(stored: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> tuple[()]:
            dequantize_bytes(stored, scale, out)
            return ()

        rows = 24 * dim
        stored = empty(rows, dim, dtype=torch.uint8)
        return widen, [stored, empty(rows, 1, dtype=torch.float32), empty(rows, dim)]
    matmul = Matmul(variant)
    kinds = {Matmul.WEIGHT_ONLY: torch.bfloat16, Matmul.INT8: torch.int8}
    kind = kinds.get(matmul, torch.float8_e4m3fn)

    def matrix(rows: int, columns: int) -> blocks.Matrix:
        scale = None if kind is torch.bfloat16 else empty(rows, dtype=torch.float32)
        return blocks.Matrix(empty(rows, columns, dtype=kind), empty(rows), scale)

    def side() -> blocks.Stream:
        norms = empty(2, geometry.head_dim)
        shapes = [(3 * dim, dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim)]
        first, *others = (matrix(*shape) for shape in shapes)
        return blocks.Stream(first, norms, *others)

    weights = blocks.Weights(side(), side())
    leaves, tree = torch.utils._pytree.tree_flatten(weights)
    tensors = [leaf for leaf in leaves if leaf is not None]
    kernel = blocks.Kernel(geometry, matmul, quick_gelu_folded=True)

    def block(image: Any, text: Any, negative: Any, modulation: Any, *rest: Any) -> Any:
        ropes, given = rest[:3], iter(rest[3:])
        filled = [None if leaf is None else next(given) for leaf in leaves]
        rebuilt = torch.utils._pytree.tree_unflatten(filled, tree)
        out, texts = blocks.run_block(
            kernel, image, [text, negative], modulation, rebuilt, ropes[0], list(ropes[1:])
        )
        return (out, *texts)

    half = geometry.head_dim // 2
    ropes = [empty(tokens, half, 2, dtype=torch.float32) for tokens in (4032, 110, 12)]
    begin = [empty(2, 4032, dim), empty(110, dim), empty(12, dim), empty(12, dim)]
    return block, [*begin, *ropes, *tensors]


def compiled(code: str, folder: Path) -> dict[str, Any]:
    """Compile every kernel in what inductor wrote; return how many, and what was refused."""
    found = KERNEL.findall(code)
    refused: list[str] = []
    for number, source in enumerate(found):
        path = folder / f"kernel_{number}.py"
        path.write_text(source, "utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (tuner,) = (v for v in vars(module).values() if hasattr(v, "configs"))
        for config in tuner.configs:
            try:
                tuner._precompile_config(config)
            except Exception as error:  # noqa: BLE001 - compilers fail in countless ways
                refused.append(f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
    own = sum("def product_kernel" in source or "def tokens_kernel" in source for source in found)
    return {"kernels": len(found), "refused": refused, "own": own}


def a_pointer_to_fp8() -> dict[str, Any]:
    """Compile a kernel of Triton's that reads FP8 numbers as such."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tests.stream.triton_kernel import widen

    source = ASTSource(widen, {"numbers": "*fp8e4nv", "out": "*fp32"})
    try:
        triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32))
    except Exception as error:  # noqa: BLE001
        return {"kernels": 1, "refused": [str(error).strip().splitlines()[-1]]}
    return {"kernels": 1, "refused": []}


def int8_kernels() -> dict[str, Any]:
    """Compile our kernels at the model's widths, products in all tiles that a card may try."""
    from bot.engine.stream import int8_kernels as kernels
    from bot.engine.stream import int8_launch as launch
    from bot.engine.stream import vector_kernels as vectors

    widen = {"numbers": "*i8", "scales": "*fp32", "out": "*bf16"}
    widen |= {"groups": "i32", "in_row": "i32"}
    tokens = {"x": "*bf16", "numbers": "*i8", "scales": "*fp32", "width": "i32"}
    product = {"tokens": "*i8", "weight": "*i8", "token_scales": "*fp32", "scales": "*fp32"}
    product |= {"bias": "*bf16", "out": "*bf16", "count": "i32", "rows": "i32", "width": "i32"}
    dim = FULL[1]
    fitting = [t for wide in (dim, 4 * dim) for t in launch.fitting(SHARED_BYTES, wide)]
    jobs = [(kernels.widen_kernel, widen, {"GROUP": 64, "BLOCK": 128}, (4, 3))]
    jobs += [
        (kernels.tokens_kernel, tokens, {"GROUP": 64, "GROUPS": n, "SILU": silu}, (warps, 3))
        for n, warps in ((64, 4), (256, 8))
        for silu in (False, True)
    ]
    vector = {"x": "*bf16", "weight": "*u8", "scales": "*fp32", "bias": "*bf16", "out": "*bf16"}
    vector |= {"rows": "i32", "width": "i32"}
    jobs += [
        (
            vectors.vector_kernel,
            vector | {"x": x, "weight": weight},
            {"FP8": weight == "*u8", "BIASED": biased, "ROWS": 8, "DEPTH": 512},
            (4, 3),
        )
        for x, weight in (("*bf16", "*u8"), ("*fp32", "*i8"))
        for biased in (False, True)
    ]
    turn = {"x": "*bf16", "out": "*fp32", "groups": "i32"}
    jobs += [(vectors.rotate_kernel, turn, {"GROUP": 64, "BLOCK": 16}, (4, 3))]
    jobs += [
        (
            kernels.product_kernel,
            product,
            {"ROWS": t.rows, "COLUMNS": t.columns, "DEPTH": t.depth, "BAND": 8},
            (t.warps, t.stages),
        )
        for t in dict.fromkeys(fitting)
    ]
    refused: list[str] = []
    whole = 0
    for kernel, signature, constants, (warps, stages) in jobs:
        try:
            found = _compiled(kernel, signature, constants, warps, stages)
        except Exception as error:  # noqa: BLE001
            refused.append(f"{constants}: {str(error).strip().splitlines()[-1]}")
            continue
        if found.metadata.shared > SHARED_BYTES:
            refused.append(f"{constants}: {found.metadata.shared} bytes of shared memory")
        whole += bool(re.search(r"mma[\w.:]*\.s8\.s8", found.asm["ptx"]))
    return {"kernels": len(jobs), "refused": refused, "whole": whole, "tiles": len(set(fitting))}


def _compiled(kernel: Any, signature: Any, constants: Any, warps: int, stages: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = [*signature, *constants]
    # As at a launch: what is a multiple of 16 is known to be one, but for the number of tokens.
    aligned = [(i,) for i, name in enumerate(names) if name in signature and name != "count"]
    source = ASTSource(
        kernel,
        signature | dict.fromkeys(constants, "constexpr"),
        {(names.index(name),): value for name, value in constants.items()},
        {at: [["tt.divisibility", 16]] for at in aligned},
    )
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32), options=options)


def say(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")


def main() -> None:
    written = pretend_to_inductor(pretend())
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch._subclasses.functional_tensor import dispatch_functionalize
    from torch.fx.experimental.proxy_tensor import make_fx

    say({"an FP8 pointer": a_pointer_to_fp8()})
    for variant in sys.argv[2:]:
        if variant == "int8 kernels":
            say({variant: int8_kernels()})
            continue
        written.clear()
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            function, tensors = traced(variant)
            # Launches of kernels want it; what writes into its arguments would be lost by it.
            whole = function if variant == "widen" else dispatch_functionalize(function)
            graph = make_fx(whole, select_decomp_table(), tracing_mode="fake")(*tensors)
            # Inductor wraps what stops it.
            with contextlib.suppress(Exception):
                compile_fx_inner(graph, tensors)
        with tempfile.TemporaryDirectory() as folder:
            say({variant: compiled(written[0], Path(folder))})


if __name__ == "__main__":
    main()
