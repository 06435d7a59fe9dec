"""The page that describes the API: plain HTML of its OpenAPI description, without any script.

A page in the API's own origin could call it for whoever looks at it, where no key is needed: so
none of it comes from elsewhere, and none of it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final, cast

Json = Mapping[str, Any]
FORM: Final = "multipart/form-data"

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h2 { margin-top: 3rem; }
details { border: 1px solid #8886; border-radius: .4rem; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; text-transform: uppercase; }
code, pre { font: .875rem/1.4 ui-monospace, monospace; }
pre { white-space: pre-wrap; padding: .75rem; background: #8881; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid #8883; }
th { white-space: nowrap; }
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its own style, and nothing else."""


def page_of(description: Json) -> str:
    """Return the page of an OpenAPI 3.1 description."""
    info = description["info"]
    tags: dict[str, list[str]] = {}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            entry = "".join(_operation(description, path, method, operation))
            tags.setdefault(operation.get("tags", [""])[0], []).append(entry)
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in tags.items())
    title = escape(info["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: the HTTP API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title} {escape(info['version'])}</h1><p>{_text(info['description'])}</p>"
        "<p>In the examples <code>$API</code> is this page's address without <code>/docs</code>, "
        "and <code>$KEY</code> a key. The same with scripts, to try out: "
        '<a href="docs/swagger">Swagger UI</a>, <a href="docs/redoc">ReDoc</a>; for programs: '
        '<a href="openapi.json">openapi.json</a>.</p>'
        f"{sections}</body></html>\n"
    )


def _operation(description: Json, path: str, method: str, operation: Json) -> Iterator[str]:
    yield (
        f'<details><summary><span class="method">{escape(method)}</span> '
        f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
    )
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    kinds: Json = operation.get("requestBody", {}).get("content", {})
    kind: str = next(iter(kinds), "")
    schema: Json = _resolved(description, kinds[kind]["schema"]) if kind else {}
    yield f"<pre>{escape(_curl(path, method, operation, _sent(kind, schema)))}</pre>"
    parameters = operation.get("parameters", ())
    if parameters:
        rows = [
            _row(f"{one['name']} ({one['in']})", one["schema"], one["required"])
            for one in parameters
        ]
        yield f"<h3>Parameters</h3><table>{''.join(rows)}</table>"
    if schema:
        yield f"<h3>Body</h3>{_fields(schema)}"
    yield "<h3>Answers</h3>"
    for status, answer in operation["responses"].items():
        yield f"<p><strong>{escape(status)}</strong> {_text(answer['description'])}</p>"
        returned = cast("Json", answer.get("content", {}))
        shape = _resolved(description, returned.get("application/json", {}).get("schema", {}))
        if status.startswith("2") and shape.get("properties"):
            yield _fields(shape, answer=True)
    yield "</details>"


def _curl(path: str, method: str, operation: Json, sent: Iterator[str]) -> str:
    what = "curl" if method == "get" else f"curl -X {method.upper()}"
    parts = [f'{what} "$API{path}"']
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $KEY"')
    return " \\\n  ".join([*parts, *sent])


def _sent(kind: str, schema: Json) -> Iterator[str]:
    """Yield curl's options that send an example of a body."""
    example: Any = next(iter(schema.get("examples", ())), None)
    if kind == FORM:
        for name in schema.get("required", ()):
            field = schema["properties"][name]
            text = "@picture.png" if field.get("format") == "binary" else "…"
            value: object = example.get(name, text) if example else text
            yield "-F " + _quoted(f"{name}={value}")
    elif example is not None:
        yield f'-H "Content-Type: {kind}"'
        yield f"-d {_quoted(json.dumps(example, ensure_ascii=False))}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fields(schema: Json, *, answer: bool = False) -> str:
    required = () if answer else schema.get("required", ())
    rows = [_row(name, one, name in required) for name, one in schema.get("properties", {}).items()]
    return f"<table>{''.join(rows)}</table>"


def _row(name: str, schema: Json, required: bool) -> str:
    notes = [_kind(schema), "required" if required else "", schema.get("description", "")]
    text = "; ".join(filter(None, notes))
    return f"<tr><th><code>{escape(name)}</code></th><td>{_text(text)}</td></tr>"


_BOUNDS: Final = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "multipleOf": "in multiples of",
}


def _kind(schema: Json) -> str:
    """Return a schema in words: its type, what it may be, its bounds, its default."""
    if "anyOf" in schema:
        kinds = [_kind(one) for one in schema["anyOf"]]
        return " or ".join(kinds)
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    words = ["file" if schema.get("format") == "binary" else str(schema.get("type", "anything"))]
    if "items" in schema:
        words.append(f"of {_kind(schema['items'])}")
    words += [f"{word} {_number(schema[key])}" for key, word in _BOUNDS.items() if key in schema]
    if "maxLength" in schema:
        words.append(f"of {schema.get('minLength', 0)} to {schema['maxLength']} characters")
    if schema.get("default") is not None:
        words.append(f"({json.dumps(schema['default'])} if left out)")
    return " ".join(words)


def _number(value: float) -> str:
    # JSON Schema has 100.0 for a bound of integers.
    return str(int(value)) if value == int(value) else str(value)


def _resolved(description: Json, schema: Json) -> Json:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return description["components"]["schemas"][reference.rpartition("/")[2]]


def _text(text: str) -> str:
    """Return text as HTML; what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
