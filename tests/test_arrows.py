"""Which room may import which, and how large what stands in them may be (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "diffsynth", "transformers", "numpy", "safetensors"}
WITH_TORCH = {"child", "files", "models", "stream", "tiny"}
SPEAKING = {"words", "errors", "logs"}  # rooms whose `__init__` is what they are for
LONGEST_MODULE = 400
MOST_METHODS = 15


@cache
def sources() -> tuple[Path, ...]:
    found = chain.from_iterable((ROOT / part).rglob("*.py") for part in ("bot", "cogs", "storage"))
    return tuple(sorted(found))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return every imported module, wherever the import stands, and each name as if it were one."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def room_of(module: str) -> str | None:
    """Return `bot/jobs`, `cogs`, `storage` …; None for what is no room of ours."""
    parts = module.split(".")
    if parts[0] in {"cogs", "storage"}:
        return parts[0]
    if parts[0] == "bot" and len(parts) > 1 and (ROOT / "bot" / parts[1]).is_dir():
        return f"bot/{parts[1]}"
    return None


def arrows() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sources():
        room = room_of(module_of(path))
        if room is not None:
            others = {room_of(name) for name in imports_of(path)}
            found[room] |= {other for other in others if other is not None and other != room}
    return dict(found)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def files_in(*places: str) -> list[Path]:
    found = [p for p in sources() if any(within(module_of(p), place) for place in places)]
    assert found, places
    return found


def forbidden(places: tuple[str, ...], *prefixes: str) -> list[str]:
    return [
        f"{module_of(path)} imports {name}"
        for path in files_in(*places)
        for name in sorted(imports_of(path))
        if any(within(name, prefix) for prefix in prefixes)
    ]


def test_rooms_form_no_circle():
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_in_bot_itself_stand_folders_only():
    files = {path.name for path in (ROOT / "bot").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py"}


def test_a_room_says_in_one_line_what_it_is_for():
    for path in sources():
        parts = path.relative_to(ROOT).parts
        if path.name != "__init__.py" or len(parts) > 3 or parts == ("bot", "__init__.py"):
            continue
        if parts[1] in SPEAKING or parts == ("cogs", "admin", "__init__.py"):
            continue
        assert len(path.read_text("utf-8").splitlines()) == 1, path
        assert ast.get_docstring(tree_of(path)), path


def test_the_ground_imports_next_to_nothing():
    found = arrows()
    assert found["bot/words"] == set()
    assert found["bot/domain"] <= {"bot/errors", "bot/words"}
    assert found["storage"] <= {"bot/domain", "bot/errors"}


def test_the_service_knows_no_discord_no_http_no_torch():
    service = ("bot.rules", "bot.jobs", "bot.archive", "bot.fleet")
    assert not forbidden(service, "discord", "fastapi", "starlette", *HEAVY)
    for path in files_in(*service):
        engine = {name for name in imports_of(path) if within(name, "bot.engine")}
        assert all(within(name, "bot.engine.protocol") or name == "bot.engine" for name in engine)


def test_messages_are_data():
    for path in files_in("bot.messages"):
        waits = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.AsyncFunctionDef)]
        assert not waits, f"{path}: {waits[0].name} is async"
    assert not forbidden(("bot.messages",), "storage")


def test_the_doors_do_not_meet():
    assert not forbidden(("bot.delivery",), "bot.client")
    assert not forbidden(("bot.client",), "cogs")
    assert not forbidden(("bot.http",), "discord", "bot.delivery", "bot.client", "bot.messages")
    assert not forbidden(("bot",), *(f"cogs.{p.stem}" for p in (ROOT / "cogs").glob("*.py")))
    assert not forbidden(("cogs",), "storage", "sqlite3", "aiosqlite", "bot.engine")


def test_the_engines_sides_never_meet():
    assert not forbidden(("bot.engine.parent",), "bot.engine.child", "bot.engine.models")
    assert not forbidden(("bot.engine.child",), "bot.engine.parent")
    outside = [p for p in sources() if room_of(module_of(p)) not in {"bot/engine", "bot/lab"}]
    for path in outside:
        inner = [n for n in imports_of(path) if within(n, "bot.engine.child")]
        assert not inner + [n for n in imports_of(path) if within(n, "bot.engine.models")], path


def test_torch_is_named_in_its_rooms_alone():
    for path in sources():
        parts = module_of(path).split(".")
        if parts[:2] == ["bot", "lab"] or (
            parts[:2] == ["bot", "engine"] and parts[2:3] and parts[2] in WITH_TORCH
        ):
            continue
        assert not {name.split(".")[0] for name in imports_of(path)} & HEAVY, path


def test_no_cog_imports_another():
    for path in files_in("cogs"):
        own = ".".join(module_of(path).split(".")[:2])
        others = [n for n in imports_of(path) if within(n, "cogs") and not within(n, own)]
        assert not others, f"{path}: {others}"


def test_the_laboratory_and_the_command_line_are_nobodys():
    for path in sources():
        room = room_of(module_of(path))
        if room not in {"bot/lab", "bot/cli"}:
            assert not [n for n in imports_of(path) if within(n, "bot.lab")], path
        if room != "bot/cli" and module_of(path) != "bot.__main__":
            assert not [n for n in imports_of(path) if within(n, "bot.cli")], path


def classes() -> dict[str, list[tuple[str, ast.ClassDef]]]:
    """Return the classes of the product by name, each with its module."""
    found: defaultdict[str, list[tuple[str, ast.ClassDef]]] = defaultdict(list)
    for path in sources():
        if room_of(module_of(path)) in {"bot/sandbox", "bot/lab"}:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append((module_of(path), node))
    return dict(found)


def test_one_public_name_is_one_class():
    twice = {
        name: [module for module, _ in places]
        for name, places in classes().items()
        if len(places) > 1 and not name.startswith("_")
    }
    assert not twice


def methods_of(name: str, known: dict[str, list[tuple[str, ast.ClassDef]]]) -> set[str]:
    """Return the methods that a class has of its own, or of another class of this project."""
    found: set[str] = set()
    for _module, node in known.get(name, ()):
        found |= {
            n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id != name:
                found |= methods_of(base.id, known)
    return found


def test_classes_stay_small():
    known = classes()
    large = {name: n for name in known if (n := len(methods_of(name, known))) > MOST_METHODS}
    assert not large


def test_the_app_starts_without_torch():
    code = f"import sys, bot.app.app; sys.exit(bool({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=50)
    assert done.returncode == 0


def test_paths_in_the_docs_are_there():
    """What a page names in backticks as a file or folder of ours."""
    named = re.compile(r"`((?:bot|cogs|storage|tests|docs)/[\w/.-]+)`")
    short = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        if page.name in {"CHANGELOG.md", "from-the-old-server.md"}:
            continue
        text = page.read_text("utf-8")
        for path in {*named.findall(text), *short.findall(text)}:
            known = (ROOT / path, ROOT / "bot" / path, ROOT / "bot" / "engine" / path)
            assert any(one.exists() for one in known), f"{page.name} names {path}"


def test_modules_stay_short():
    for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE, path
