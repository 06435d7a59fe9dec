from __future__ import annotations

import os


def pytest_report_header() -> str:
    name = os.environ.get("DISCORD_OPENAPI")
    if name:
        return (
            f"Discord's OpenAPI description: {name}; every exchange over the wire is judged by it"
        )
    return "DISCORD_OPENAPI is not set: exchanges are NOT judged by Discord's OpenAPI description"
