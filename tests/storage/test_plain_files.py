"""Plain files: no link is followed on the way to one, however the system opens them."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from storage import plain_files
from storage.plain_files import UntrustedFileError, open_plain, read_plain

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.fixture(params=[True, False], ids=["by folder", "by path"])
def root(request, tmp_path, monkeypatch):
    """A folder with a file in it; the second way is that of Windows."""
    monkeypatch.setattr(plain_files, "_BY_FOLDER", request.param)
    (tmp_path / "real/a/b").mkdir(parents=True)
    (tmp_path / "real/a/b/file").write_bytes(b"what is there")
    (tmp_path / "secret").write_bytes(b"what is there")
    (tmp_path / "root").symlink_to("real")
    return tmp_path / "root"


def test_a_plain_file_is_read_also_where_the_root_is_a_link(root):
    sha256 = hashlib.sha256(b"what is there").hexdigest()
    assert read_plain(root, "a/b/file", 13, sha256) == b"what is there"
    with open_plain(root, "a/b/file", own=True) as file:
        assert file.read() == b"what is there"


def test_other_files_are_told_apart(root):
    with pytest.raises(UntrustedFileError, match="too large"):
        read_plain(root, "a/b/file", 12)
    with pytest.raises(UntrustedFileError, match="recorded"):
        read_plain(root, "a/b/file", 13, "0" * 64)
    with pytest.raises(FileNotFoundError):
        read_plain(root, "a/b/none", 13)
    for name in ("", "..", "../secret", "a/../../secret", str(root / "a/b/file")):
        with pytest.raises(UntrustedFileError, match="outside"):
            open_plain(root, name)


@pytest.mark.parametrize("where", ["a/b/file", "a/b", "a"])
def test_no_link_is_followed(root, where):
    target = root / where
    target.symlink_to(target.rename(root.parent / "elsewhere"))
    with pytest.raises(UntrustedFileError, match="link"):
        open_plain(root, "a/b/file")


def test_what_is_no_file_is_not_waited_for(root):
    (root / "a/b/file").unlink()
    os.mkfifo(root / "a/b/file")
    before = len(list(Path("/dev/fd").iterdir()))
    for name in ("a/b/file", "a/b"):
        with pytest.raises(UntrustedFileError, match="no regular one"):
            open_plain(root, name)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_second_name_is_a_secret_of_somebodys(root):
    (root / "a/b/other").hardlink_to(root.parent / "secret")
    with pytest.raises(UntrustedFileError, match="second name"):
        open_plain(root, "a/b/other", own=True)
    assert read_plain(root, "a/b/other", 100) == b"what is there"  # with a hash it does no harm


def test_a_link_that_comes_in_between_is_seen(root, monkeypatch):
    opened, swapped = os.open, []

    def swap_first(path, *arguments, **options):
        if os.fspath(path).endswith("file") and not swapped:
            swapped.append(path)
            (root / "a/b/file").unlink()
            (root / "a/b/file").symlink_to(root.parent / "secret")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap_first)
    with pytest.raises(UntrustedFileError, match="link"):
        open_plain(root, "a/b/file")
    assert swapped
