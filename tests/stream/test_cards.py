"""The engine's kernels compile for the cards that people have, none of which is needed for it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

STAND_IN = Path(__file__).with_name("stand_in.c")
FEWEST_KERNELS = {"widen": 1, "weight-only": 10, "row": 10, "int8": 8}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    if torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        pytest.skip("this build of torch has no CUDA, so nothing compiles for a card")
    if (compiler := shutil.which("gcc")) is None or sys.platform != "linux":
        pytest.skip("there is no gcc to make the stand-in for the CUDA runtime")
    made = tmp_path_factory.mktemp("stand_in") / "stand_in.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, STAND_IN], check=True)
    return made


def compiled(stand_in, folder, capability, variants) -> dict[str, dict]:
    """Compile in a process of its own; return what is told of each of `variants`."""
    places = {
        "TORCHINDUCTOR_CACHE_DIR": folder / "inductor",
        "TRITON_CACHE_DIR": folder / "triton",
    }
    command = [sys.executable, "-m", "tests.stream.offline", str(capability), *variants]
    done = subprocess.run(
        command,
        env=os.environ
        | {name: str(path) for name, path in places.items()}
        | {"LD_PRELOAD": stand_in},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    assert list(found) == ["an FP8 pointer", *variants]
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("capability", "variants"),
    [
        (86, []),  # RTX 30
        (89, ["row", "int8"]),  # RTX 40, whose FP8 products begin here
        (90, []),  # H100, H200: all else is measured there
        (120, []),  # RTX 50
        # The rest, A100, and all of the other two: 100 s each.
        pytest.param(89, ["widen", "weight-only"], marks=pytest.mark.thorough),
        pytest.param(80, ["widen", "weight-only", "int8"], marks=pytest.mark.thorough),
        pytest.param(86, ["widen", "weight-only", "int8"], marks=pytest.mark.thorough),
        pytest.param(120, ["widen", "weight-only", "row", "int8"], marks=pytest.mark.thorough),
    ],
)
def test_every_kernel_compiles(stand_in, tmp_path, capability, variants):
    found = compiled(stand_in, tmp_path, capability, [*variants, "int8 kernels"])
    # What Triton itself refuses shows that it compiles for this card, and not for another.
    refused = found.pop("an FP8 pointer")["refused"]
    assert ("fp8e4nv" in str(refused)) == (capability < 89), refused
    # Within the card's shared memory, and in each of a product's tiles the tensor cores multiply
    # whole numbers.
    kernels = found.pop("int8 kernels")
    assert kernels["refused"] == []
    assert kernels["whole"] == kernels["tiles"] >= 4
    for variant, result in found.items():
        assert result["refused"] == [], variant
        assert result["kernels"] >= FEWEST_KERNELS[variant], variant
        # The INT8 kernels are launched by the code that inductor writes.
        assert bool(result["own"]) == (variant == "int8")
