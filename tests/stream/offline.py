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
SIZES = {80: (108, 2048), 86: (82, 1536), 89: (128, 1536), 120: (170, 1536)}
MULTIPROCESSORS, THREADS = SIZES[CAPABILITY]
SHARED_BYTES = 101_376
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
    from bot.engine.stream.layout import Geometry
    from bot.engine.stream.quantize import Matmul, dequantize_bytes

    geometry = Geometry(*FULL)
    dim = geometry.dim

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
    fp8 = matmul is not Matmul.WEIGHT_ONLY

    def matrix(rows: int, columns: int) -> blocks.Matrix:
        kind = torch.float8_e4m3fn if fp8 else torch.bfloat16
        scale = empty(rows, dtype=torch.float32) if fp8 else None
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
        (tuner,) = (
            v for n, v in vars(module).items() if n.startswith("triton_") and hasattr(v, "configs")
        )
        for config in tuner.configs:
            try:
                tuner._precompile_config(config)
            except Exception as error:  # noqa: BLE001 - compilers fail in countless ways
                refused.append(f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
    return {"kernels": len(found), "refused": refused}


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


def say(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")


def main() -> None:
    written = pretend_to_inductor(pretend())
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    say({"an FP8 pointer": a_pointer_to_fp8()})
    for variant in sys.argv[2:]:
        written.clear()
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            function, tensors = traced(variant)
            graph = make_fx(function, select_decomp_table(), tracing_mode="fake")(*tensors)
            # Inductor wraps what stops it.
            with contextlib.suppress(Exception):
                compile_fx_inner(graph, tensors)
        with tempfile.TemporaryDirectory() as folder:
            say({variant: compiled(written[0], Path(folder))})


if __name__ == "__main__":
    main()
