"""Which part may import which; the arrows of docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "diffsynth", "transformers", "numpy", "safetensors"}

# What a part must not import (prefixes of dotted module names).
FORBIDDEN = {
    "storage": {"bot.client", "bot.delivery", "bot.engine", "cogs", "discord", *HEAVY},
    "bot/jobs": {"bot.client", "bot.delivery", "bot.http", "cogs", "discord", *HEAVY},
    "bot/delivery": {"bot.engine", "cogs", *HEAVY},
    "bot/http": {"bot.engine", "bot.client", "bot.delivery", "cogs", "discord", *HEAVY},
    "bot/engine": {"bot.jobs", "bot.delivery", "bot.client", "storage", "cogs", "discord"},
    "bot/sandbox": {
        "bot.jobs",
        "bot.delivery",
        "bot.engine",
        "bot.client",
        "storage",
        "cogs",
        *HEAVY,
    },
    "bot": {"cogs"},
    "cogs": {"bot.engine", "sqlite3", "aiosqlite", "storage", *HEAVY},
}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_arrow_points_the_wrong_way(part):
    files = sorted((ROOT / part).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports_of(path)
        for prefix in FORBIDDEN[part]
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    assert not wrong


def test_only_the_engine_names_torch():
    for path in (ROOT / "bot").rglob("*.py"):
        if (ROOT / "bot/engine") not in path.parents:
            assert not {name.split(".")[0] for name in imports_of(path)} & HEAVY, path


def test_the_workers_know_only_the_protocol():
    for module in ("worker", "fleet"):
        names = imports_of(ROOT / f"bot/jobs/{module}.py")
        names = {name for name in names if name.startswith("bot.engine")}
        assert names
        assert all(name.startswith("bot.engine.protocol") for name in names)


def test_the_app_starts_without_torch():
    code = f"import sys, bot.app; sys.exit(bool({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=50)
    assert done.returncode == 0


def test_modules_stay_short():
    for part in ("bot", "cogs", "storage", "tests"):
        for path in (ROOT / part).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
