"""Picture files: moved whole, named by the job's id alone."""

from __future__ import annotations

import hashlib
import time

import pytest

from bot.domain.ids import new_job_id
from storage import form_pictures
from storage.images import ImageStore

JOB = "01abcdefghjkmnpqrs"


@pytest.fixture
def store(tmp_path) -> ImageStore:
    return ImageStore(tmp_path / "images", clock=lambda: 1_800_000_000.0)


async def test_a_picture_is_moved_to_its_day(store):
    source = store.work_dir(JOB) / "0.png"
    source.write_bytes(b"picture" * 1000)
    record = await store.keep(JOB, 0, source, width=256, height=128, seed=7)
    assert record.file == f"2027/01/15/{JOB}_0.png"
    assert store.path(record).read_bytes() == b"picture" * 1000
    assert record.sha256 == hashlib.sha256(b"picture" * 1000).hexdigest()
    assert (record.size_bytes, record.width, record.height, record.seed) == (7000, 256, 128, 7)
    assert not source.exists()


async def test_a_second_attempt_takes_the_place_of_the_first(store):
    for content in (b"first", b"second"):
        source = store.work_dir(JOB) / "0.png"
        source.write_bytes(content)
        record = await store.keep(JOB, 0, source, width=1, height=1, seed=0)
    assert store.path(record).read_bytes() == b"second"


async def test_a_picture_that_is_missing_leaves_nothing(store):
    with pytest.raises(FileNotFoundError):
        await store.keep(JOB, 0, store.work_dir(JOB) / "0.png", width=1, height=1, seed=0)
    assert not list(store.root.rglob("*.png"))


async def test_work_is_cleared_and_kept_pictures_stay(store):
    source = store.work_dir(JOB) / "0.png"
    source.write_bytes(b"kept")
    record = await store.keep(JOB, 0, source, width=1, height=1, seed=0)
    (store.work_dir(JOB) / "1.png").write_bytes(b"left over")
    (store.work_dir("another") / "0.png").write_bytes(b"left over")
    await store.clear(JOB)
    assert [path.name for path in (store.root / ".work").iterdir()] == ["another"]
    await store.clear()
    await store.clear()
    assert store.path(record).exists()
    assert not list(store.root.rglob("1.png"))


async def test_a_link_in_the_place_of_a_work_folder_goes(store):
    folder = store.work_dir(JOB)
    mine = folder.parent.parent / "2027"
    mine.mkdir()
    (mine / "kept").touch()
    for again in (store.clear(JOB), store.clear()):
        folder.rmdir()
        folder.symlink_to(mine)
        await again
        assert not folder.is_symlink()
        assert store.work_dir(JOB).is_dir()
    folder.rmdir()
    folder.symlink_to(mine)
    assert not store.work_dir(JOB).is_symlink()
    assert [path.name for path in mine.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a" * 21, "a\x00b", "con.png"])
async def test_no_other_name_reaches_the_disk(store, name):
    with pytest.raises(ValueError, match="job id"):
        store.work_dir(name)
    with pytest.raises(ValueError, match="job id"):
        await store.keep(name, 0, store.root / "x", width=1, height=1, seed=0)


async def test_the_pictures_of_open_forms_are_bounded_in_all(tmp_path, monkeypatch):
    store = ImageStore(tmp_path / "images")
    monkeypatch.setattr(form_pictures, "_BYTES_IN_ALL", 1000)
    keys = [new_job_id(time.time() + n) for n in range(4)]
    for user, key in enumerate(keys):
        await store.form_pictures.keep(user, key, bytes(300))
    with pytest.raises(FileNotFoundError):
        await store.form_pictures.read(0, keys[0])
    for user in (1, 2, 3):
        assert await store.form_pictures.read(user, keys[user]) == bytes(300)
