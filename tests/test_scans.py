"""What should not stand in our files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What looks like a secret and is not one, by file: an alphabet, made-up values of tests.
KNOWN = {
    ("bot/domain/ids.py", "Base64 High Entropy String"),
    ("tests/test_scans.py", "Base64 High Entropy String"),
    ("tests/wire/test_pictures_in.py", "Basic Auth Credentials"),
    ("tests/engine/test_faults.py", "Secret Keyword"),
    ("tests/hostile/test_logged_prompts.py", "Secret Keyword"),
    ("tests/http/test_generate.py", "Secret Keyword"),
    ("tests/http/test_key_limits.py", "Secret Keyword"),
    ("tests/http/test_keys.py", "Secret Keyword"),
    ("tests/http/test_kills.py", "Secret Keyword"),
    ("tests/wire/test_crowd.py", "Hex High Entropy String"),
    ("requirements-dev.lock", "Hex High Entropy String"),
    ("requirements.lock", "Hex High Entropy String"),
    ("tests/wire/test_unforeseen.py", "Hex High Entropy String"),
    ("docs/proxy.md", "Basic Auth Credentials"),
    ("tests/http/test_outside.py", "Secret Keyword"),
    ("tests/process/proxy_kit.py", "Basic Auth Credentials"),
    ("tests/process/proxy_kit.py", "Secret Keyword"),
    ("tests/process/test_flood.py", "Secret Keyword"),
    ("tests/process/test_proxy.py", "Basic Auth Credentials"),
    ("tests/process/test_start_lines.py", "Secret Keyword"),
    ("tests/storage/test_plans.py", "Hex High Entropy String"),
    ("tests/wire/test_unreadable.py", "Secret Keyword"),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def scanned(folder: Path, *arguments: str) -> set[tuple[str, str]]:
    command = [sys.executable, "-m", "detect_secrets", "scan", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    results = json.loads(done.stdout)["results"]
    return {(file, found["type"]) for file, all_found in results.items() for found in all_found}


def test_no_secret_stands_in_the_repository():
    assert scanned(ROOT) - KNOWN == set()


def test_a_secret_would_be_found(tmp_path):
    # In pieces, so that this file holds none.
    parts = ("MTIzNDU2Nzg5MDEyMzQ1Njc4", "GhIjKl", "abcdefghijklmnopqrstuvwxyzABCDEFGH12")
    token = ".".join(parts)
    (tmp_path / "settings.py").write_text(f"token = '{token}'\n")
    assert "Discord Bot Token" in {kind for _, kind in scanned(tmp_path, "--all-files")}
