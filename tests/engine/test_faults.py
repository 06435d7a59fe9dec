from __future__ import annotations

import pytest

from bot.engine.faults import account_of, diagnose
from bot.engine.options import Backoff
from bot.engine.parent.environment import child_environment
from bot.errors import EngineError, EngineErrorKind

OOM, RAISED = EngineErrorKind.OUT_OF_MEMORY, EngineErrorKind.RAISED


class OutOfMemoryError(RuntimeError):
    pass


class AcceleratorError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "fatal"),
    [
        (OutOfMemoryError("Tried to allocate 2.00 GiB"), OOM, False),
        (MemoryError(), OOM, False),
        (RuntimeError("CUDA out of memory. Tried to allocate"), OOM, False),
        (RuntimeError("CUDA error: out of memory"), OOM, False),
        (AcceleratorError("CUDA error: out of memory"), OOM, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), OOM, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OOM, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OOM, False),
        (RuntimeError("CUDA error: device-side assert triggered"), RAISED, True),
        (AcceleratorError("an illegal memory access was encountered"), RAISED, True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RAISED, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), RAISED, True),
        (ValueError("shapes don't match"), RAISED, False),
    ],
)
def test_diagnosis(error: Exception, kind: EngineErrorKind, fatal: bool) -> None:
    fault = diagnose(error)
    assert (fault.kind, fault.fatal) == (kind, fatal)
    assert type(error).__name__ in fault.detail


def test_the_prompt_is_cut_out_of_the_detail() -> None:
    assert "purple" not in diagnose(ValueError("bad: a purple cow"), secret="a purple cow").detail


def test_an_engine_error_keeps_its_sentence() -> None:
    error = EngineError(EngineErrorKind.LOAD_FAILED, "x", sentence="The file is missing.")
    assert diagnose(error).sentence == "The file is missing."


def _raised(error: Exception, cause: Exception | None) -> str:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return account_of(caught.value)


def test_what_is_foreseen_is_told_without_a_traceback() -> None:
    foreseen = EngineError(EngineErrorKind.LOAD_FAILED, "x", sentence="The file is missing.")
    assert _raised(foreseen, None) == ""
    assert _raised(foreseen, OSError(5, "I/O")) == "it came of OSError: [Errno 5] I/O\n"
    for strange in (ValueError("odd"), EngineError(EngineErrorKind.RAISED, "no words for it")):
        assert _raised(strange, None).startswith("Traceback (most recent call last):\n")


def test_the_environment_keeps_what_libraries_need_and_drops_secrets() -> None:
    secrets = dict.fromkeys(("DISCORD_TOKEN", "API_KEYS", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "PGPASSWORD", "HF_API_KEY", "PYTHON_SECRET", "CUDA_TOKEN", "DATABASE_URL", "XDG_COOKIE", "discord_token"), "canary")  # fmt: skip
    needed = {
        "PATH": "/bin",
        "HOME": "/h",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_TOKEN": "t",
        "LC_ALL": "C",
        "https_proxy": "p",
    }
    child = child_environment({**secrets, **needed, "PYTHONPATH": "/extra"})
    assert "canary" not in child.values()
    assert needed.items() <= child.items()
    assert child["PYTHONPATH"].endswith("/extra")


def test_backoff_starts_with_none_and_grows_to_its_cap() -> None:
    backoff = Backoff()
    assert [backoff.delay(n) for n in (0, 1, 2, 3, 4)] == [0, 0, 1, 2, 4]
    assert backoff.delay(9) == backoff.delay(10**6) == 60
