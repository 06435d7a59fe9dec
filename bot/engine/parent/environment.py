"""The environment that the engine child gets: what its libraries need, and no secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bot.engine.host_memory import under_wsl

# The child runs a large stack of third-party code, so it gets what is listed as needed, rather than
# everything except the secrets that are known today.
_ALLOWED: Final = re.compile(
    r"""
    PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|TERM|NO_COLOR
    |VIRTUAL_ENV|PYTHON\w+|COVERAGE_PROCESS_START
    |SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|USERPROFILE|APPDATA|LOCALAPPDATA|PROGRAMDATA
    |PROGRAMFILES.*|NUMBER_OF_PROCESSORS|PROCESSOR_\w+
    |LD_LIBRARY_PATH|DYLD_\w+|XDG_\w+
    |CC|CXX|CUDA_\w+|NVIDIA_\w+|HIP_\w+|ROCR_\w+|HSA_\w+|GPU_\w+
    |TORCH\w*|PYTORCH_\w+|TRITON_\w+|OMP_\w+|MKL_\w+|OPENBLAS_\w+|KMP_\w+|NUMEXPR_\w+
    |HF_\w+|HUGGINGFACE_\w+|MODELSCOPE_ENDPOINT|TRANSFORMERS_\w+|SAFETENSORS_\w+|DIFFSYNTH_\w+
    |(HTTP|HTTPS|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SECRET: Final = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL|COOKIE", re.IGNORECASE)
# Model downloads may need it, and it opens nothing of Discord.
_KEPT: Final = frozenset({"HF_TOKEN", "HF_TOKEN_PATH"})


def child_environment(parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the child's environment, made from `parent` (default: this process's own)."""
    source = os.environ if parent is None else parent
    kept = {
        name: value
        for name, value in source.items()
        if name in _KEPT or (_ALLOWED.fullmatch(name) and not _SECRET.search(name))
    }
    root = str(Path(__file__).resolve().parents[3])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    # Not the folder that the bot was started in: another program's `bot` may lie there.
    kept["PYTHONSAFEPATH"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONIOENCODING"] = "utf-8"
    # OpenMP's threads spin at every barrier. On two cores with other work to do, a tiny picture
    # took 8 s with spinning threads and 1 s with sleeping ones (idle cores: 0.55 s and 0.77 s).
    kept.setdefault("OMP_WAIT_POLICY", "passive")
    # Otherwise the place of an evicted block can't be used for larger tensors. (Renamed in 2.10.)
    # Under WSL 2 some drivers fail at it (https://github.com/pytorch/pytorch/issues/192330).
    for name in () if under_wsl() else ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        kept.setdefault(name, "expandable_segments:True")
    return kept
