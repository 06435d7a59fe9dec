"""One warm tiny engine for the whole test session: its start costs seconds, its pictures half of one.

The fixture lives on the session's event loop, so tests that use it are marked
`pytest.mark.asyncio(loop_scope="session")`. It is registered in a conftest.py; registered in
tests/conftest.py, one child serves every folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess


@pytest.fixture(scope="session")
def lora_folder(tmp_path_factory) -> Path:
    """The folder in which `warm_tiny` looks for LoRA files."""
    return tmp_path_factory.mktemp("loras")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def warm_tiny(lora_folder) -> AsyncIterator[EngineProcess]:
    """The real tiny pipeline in a real child process, loaded."""
    engine = EngineProcess("tiny", options=EngineOptions(Path("unused"), lora_path=lora_folder))
    await engine.load()
    yield engine
    await engine.close()
