"""The page's own Markdown and command reader, run in the browser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.sandbox.server import Sandbox
from tests.browser.chromium import Page

pytestmark = pytest.mark.browser

HOSTILE = (
    '<img src=x onerror=alert(1)> **<script>x</script>** [a](javascript:alert(1)) <http://x"y>'
)
CASES = {
    "**bold** *it* _it_ __u__ ~~s~~": "<strong>bold</strong> <em>it</em> <em>it</em> <u>u</u> <s>s</s>",
    "***both***": "<em><strong>both</strong></em>",
    "`a **b** <i>`": "<code>a **b** &lt;i&gt;</code>",
    "snake_case_word 2*3*4": "snake_case_word 2<em>3</em>4",
    r"\*not\* \_this\_": "*not* _this_",
    "**open *mixed": "**open *mixed",
    "hi <@7> in <#8> </imagine:9>": (
        'hi <span class="mention">@Ann</span> in <span class="mention">#art</span>'
        ' <span class="mention">/imagine</span>'
    ),
    "@everyone <@&5>": '@everyone <span class="mention">@role</span>',
    "<script>alert(1)</script>": "&lt;script&gt;alert(1)&lt;/script&gt;",
}
BLOCKS = {
    "```py\n<b>\n```": '<pre tabindex="0"><code>&lt;b&gt;</code></pre>',
    "> a\n> b": '<blockquote><div class="line">a<br>b</div></blockquote>',
    "- a\n  - b\n1. c": (
        '<div class="list"><ul><li>a<ul><li>b</li></ul></li></ul><ol start="1"><li>c</li></ol></div>'
    ),
    "# T\nx": '<div class="h1" role="heading" aria-level="3">T</div><div class="line">x</div>',
    "-# s": '<div class="small">s</div>',
}
RENDER = """(await (async () => {{
    const {{ markdown, inlineMarkdown }} = await import("/page/markdown.js");
    const box = document.createElement("div");
    const names = {{ userName: (id) => ({{ 7: "Ann" }})[id], channelName: (id) => ({{ 8: "art" }})[id] }};
    box.append(...{how}({text}, names));
    return box.innerHTML;
}})())"""


async def render(page: Page, text: str, how: str = "markdown") -> str:
    return await page.js(RENDER.format(text=json.dumps(text), how=how))


async def test_markdown(sandbox: Sandbox, page: Page):
    await page.open(sandbox.url)
    for text, html in CASES.items():
        assert await render(page, text, "inlineMarkdown") == html
    for text, html in BLOCKS.items():
        assert await render(page, text) == html
    link = await render(page, "see https://example.org/a_b_c.")
    assert '<a href="https://example.org/a_b_c" target="_blank" rel="noopener noreferrer">' in link
    hostile = await render(page, HOSTILE)
    for forbidden in ("<img", "<script", 'href="javascript'):
        assert forbidden not in hostile
    spoiler = await render(page, "||secret||")
    assert 'role="button"' in spoiler
    assert 'aria-expanded="false"' in spoiler
    # Long runs of opening marks end in reasonable time.
    for marks in ("*", "_", "`", "|", "[", "**a", "__a ", "> "):
        assert await render(page, marks * 1500)


async def test_times(sandbox: Sandbox, page: Page):
    await page.open(sandbox.url)
    now = await page.js("Math.round(Date.now() / 1000)")
    soon = await render(page, f"<t:{now + 65}:R>")
    assert f'data-relative="{now + 65}"' in soon
    assert "in 1 minute" in soon
    dated = await render(page, "<t:1700000000:F> <t:1700000000>")
    assert dated.count('datetime="2023-11-14T22:13:20.000Z"') == 2
    assert "2023" in dated
    assert "Invalid Date" in await render(page, "<t:9999999999999>")


COMMANDS: list[dict[str, Any]] = [
    {
        "name": "imagine",
        "description": "Draw",
        "options": [
            {"type": 3, "name": "prompt", "description": "What", "required": True},
            {
                "type": 3,
                "name": "aspect",
                "description": "Shape",
                "choices": [{"name": "1:1", "value": "square"}],
            },
            {"type": 4, "name": "seed", "description": "Seed", "min_value": 0},
        ],
    },
    {
        "name": "admin",
        "description": "Admin",
        "default_member_permissions": "32",
        "contexts": [0],
        "options": [{"type": 1, "name": "queue", "description": "Queue"}],
    },
    {"name": "Shout", "type": 3, "description": ""},
]
READINGS: dict[str, Any] = {
    "/imagine prompt: a lighthouse at night aspect: 1:1 seed: 5": [
        "imagine",
        {"prompt": "a lighthouse at night", "aspect": "1:1", "seed": "5"},
    ],
    "/imagine a lighthouse": ["imagine", {"prompt": "a lighthouse"}],
    "/imagine a sign: open seed: 7": ["imagine", {"prompt": "a sign: open", "seed": "7"}],
    "/imagine seed:3 prompt:x\ny": ["imagine", {"seed": "3", "prompt": "x\ny"}],
    "/Imagine": ["imagine", {}],
    "/admin queue": ["admin queue", {}],
    "/imagination": None,
    "imagine a boat": None,
    "/Shout": None,
}


async def test_commands(sandbox: Sandbox, page: Page):
    await page.open(sandbox.url)
    head = f"const commands = {json.dumps(COMMANDS)}; const m = await import('/page/commands.js');"
    for text, expected in READINGS.items():
        read = await page.js(
            f"(await (async () => {{ {head} const read = m.parse({json.dumps(text)},"
            " m.flatten(commands)); return read && [read.leaf.path, read.values]; })())"
        )
        assert read == expected, text
    values = await page.js(
        f"(await (async () => {{ {head} const [, aspect, seed] = commands[0].options;"
        " const fails = (...a) => { try { m.valueOf(...a); } catch (e) { return e.message; } };"
        " return [m.valueOf(aspect, '1:1'), m.valueOf(seed, ' 12 '), fails(seed, '1.5'),"
        " fails(seed, '-1'), fails(aspect, '7:3')]; })())"
    )
    assert values == [
        "square",
        12,
        "Give a whole number.",
        "At least 0.",
        "Choose one from the list.",
    ]
    seen = await page.js(
        f"(await (async () => {{ {head} return [[true, false], [false, false], [true, true]]"
        ".map(([admin, dm]) => commands.filter((c) => m.visible(c, { admin, dm })).length); })())"
    )
    assert seen == [3, 2, 2]
