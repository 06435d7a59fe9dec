"""Quick imports of DiffSynth, without what inference never uses.

DiffSynth's packages import their training tools, data sets, downloaders and every image encoder:
pandas, imageio, torchvision, accelerate, modelscope, and torch's compiler. Inside `quick_imports`
those few modules are hollow: they import at once, and any name taken from them is an empty class.
Afterwards they are gone from `sys.modules`, so that whoever needs one later gets the real thing.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

HOLLOW: Final = frozenset(
    {
        "modelscope",  # a downloader; the files come from elsewhere
        "diffsynth.core.attention.attention",  # compiles flex attention; Qwen-Image uses SDPA
        "diffsynth.core.data",  # training data sets
        "diffsynth.diffusion.dmd2",  # training
        "diffsynth.diffusion.logger",  # training
        "diffsynth.diffusion.runner",  # training
        "diffsynth.models.dinov3_image_encoder",  # image to LoRA
        "diffsynth.models.siglip2_image_encoder",  # image to LoRA
    }
)


class _HollowModule(ModuleType):
    __all__: Sequence[str] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


class _HollowFinder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(fullname, self) if fullname in HOLLOW else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _HollowModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


@contextmanager
def quick_imports() -> Generator[None]:
    """Make the modules in `HOLLOW` hollow while the block imports; not thread-safe."""
    finder = _HollowFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in HOLLOW:
            if isinstance(sys.modules.get(name), _HollowModule):
                del sys.modules[name]
                package, _, child = name.rpartition(".")
                if package in sys.modules:
                    vars(sys.modules[package]).pop(child, None)
