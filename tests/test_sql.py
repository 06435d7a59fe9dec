"""SQL is made of constants alone; whatever comes from outside is a parameter."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [path for part in ("bot", "cogs", "storage") for path in (ROOT / part).rglob("*.py")]
CALLS = {
    "all", "execute", "execute_fetchall", "executemany", "executescript", "one", "value",
}  # fmt: skip
# Whose methods of these names take SQL; `all` and `value` are other things' names, too.
TAKERS = {
    "connection", "cursor", "database", "reader", "recovering", "tx", "writer", "_connection", "_writer",
}  # fmt: skip
# What is put into SQL without being a constant of its module, and what it can be.
ALLOWED = {
    ("storage/blocks.py", "which"): "one of two constants",
    ("storage/clock.py", "sql"): "the values of two tuples of constants",
    ("storage/database.py", "pragma"): "one of two tuples of constants",
    ("storage/database.py", "sql"): "handed through; the callers are judged",
    ("storage/database.py", "begin"): "BEGIN or BEGIN IMMEDIATE",
    ("storage/migrate.py", "statement"): "of a migration's file, which is part of the code",
    ("storage/migrate.py", "migration.version"): "the number in that file's name",
    ("storage/people.py", "table"): "of the type Literal['users', 'guilds']",
    ("storage/privacy.py", "sql"): "the values of a dict of constants",
    ("storage/usage.py", "totals_sql(scope)"): "made of a dict of constants",
    ("storage/usage.py", "_IN_SCOPE[scope]"): "the values of a dict of constants",
}


def constants(tree: ast.Module) -> set[str]:
    """The names that a module binds once, to text made of constants; imported capitals, too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.name.isupper()}
    for node in tree.body:
        named = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if named and node.value and not foreign(node.value, found):
            found.add(node.target.id)
    return found


def foreign(text: ast.expr, known: set[str]) -> list[str]:
    """What in an expression for SQL is neither text nor a known constant."""
    match text:
        case ast.Constant():
            return []
        case ast.JoinedStr():
            values = [v.value for v in text.values if isinstance(v, ast.FormattedValue)]
            return [name for value in values for name in foreign(value, known)]
        case ast.Name():
            return [] if text.id in known else [text.id]
        case ast.BinOp(op=ast.Add()):
            return foreign(text.left, known) + foreign(text.right, known)
        case ast.IfExp():
            return foreign(text.body, known) + foreign(text.orelse, known)
        case ast.Tuple():
            return [name for value in text.elts for name in foreign(value, known)]
        case _:
            return [ast.unparse(text)]


def local_constants(function: ast.AST, known: set[str]) -> set[str]:
    """The local names that only ever hold text made of constants."""
    good: set[str] = set()
    bad: set[str] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(names)
        for name, value in zip(names, values, strict=False):
            if isinstance(name, ast.Name):
                (bad if foreign(value, known | good) else good).add(name.id)
    return good - bad


def taker(call: ast.Call) -> str | None:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in CALLS:
        return None
    value = call.func.value
    return value.id if isinstance(value, ast.Name) else getattr(value, "attr", None)


@cache
def judged(path: Path) -> tuple[int, list[str]]:
    """How many statements a file has, and what is wrong with them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known, name = constants(tree), path.relative_to(ROOT).as_posix()
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    statements, wrong = 0, []
    for function in functions:
        here = known | local_constants(function, known)
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and call.args and taker(call) in TAKERS:
                statements += 1
                wrong += [
                    f"{name}:{call.lineno}: {made_of}"
                    for made_of in foreign(call.args[0], here)
                    if (name, made_of) not in ALLOWED
                ]
    return statements, wrong


def test_every_statement_is_made_of_constants():
    results = [judged(path) for path in FILES]
    assert sum(count for count, _ in results) > 80, "they are still found"
    assert not [line for _, wrong in results for line in wrong]


def test_no_statement_stands_outside_of_storage():
    """But for the backup's, the doctor's and the courier of one fact."""
    owners = {path.relative_to(ROOT).parts[0] for path in FILES if judged(path)[0]}
    assert "cogs" not in owners


@pytest.mark.parametrize(
    "line",
    [
        "await tx.one(f'SELECT * FROM jobs WHERE id = {job_id}')",
        "await tx.one('SELECT * FROM jobs WHERE id = %s' % job_id)",
        "await tx.one('SELECT * FROM jobs WHERE id = {}'.format(job_id))",
        "await tx.one('SELECT * FROM jobs WHERE id = ' + job_id)",
        "await tx.execute(job_id)",
    ],
)
def test_what_is_looked_for_is_seen(line):
    call = ast.parse(f"async def f(tx, job_id):\n    {line}").body[0]
    (found,) = [n for n in ast.walk(call) if isinstance(n, ast.Call) and taker(n)]
    assert foreign(found.args[0], set())
