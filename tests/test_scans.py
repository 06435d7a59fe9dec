"""What strangers know of our packages, and what should not stand in our files."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADVISORIES = "https://api.osv.dev/"
# What looks like a secret and is none, by file: an alphabet, made-up values of tests.
KNOWN = {
    ("bot/jobs/ids.py", "Base64 High Entropy String"),
    ("tests/test_scans.py", "Base64 High Entropy String"),
    ("tests/wire/test_pictures_in.py", "Basic Auth Credentials"),
    ("tests/engine/test_faults.py", "Secret Keyword"),
    ("tests/hostile/test_logged_prompts.py", "Secret Keyword"),
    ("tests/http/test_generate.py", "Secret Keyword"),
    ("tests/http/test_keys.py", "Secret Keyword"),
    ("tests/http/test_kills.py", "Secret Keyword"),
    ("tests/wire/test_crowd.py", "Hex High Entropy String"),
    ("tests/wire/test_unforeseen.py", "Hex High Entropy String"),
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


def test_no_installed_package_has_a_known_hole():
    try:
        urllib.request.urlopen(ADVISORIES, timeout=5).close()
    except urllib.error.HTTPError:
        pass  # It answers.
    except (urllib.error.URLError, TimeoutError) as error:
        pytest.skip(f"the advisories cannot be asked: {error}")
    # OSV's own list, not the package index, which would be asked about each package.
    options = ("--local", "--vulnerability-service", "osv", "--progress-spinner", "off")
    command = [sys.executable, "-m", "pip_audit", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
