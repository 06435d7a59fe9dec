from __future__ import annotations

import os

# Processes that share the cores are no faster with several threads each, which wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_header() -> str:
    name = os.environ.get("DISCORD_OPENAPI")
    if name:
        return (
            f"Discord's OpenAPI description: {name}; every exchange over the wire is judged by it"
        )
    return "DISCORD_OPENAPI is not set: exchanges are NOT judged by Discord's OpenAPI description"
