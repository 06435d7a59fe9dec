"""Several files of one job: what a request may say of them, how they are kept, and who deletes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from functools import partial

import pytest

from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.catalogue.models import find_model
from bot.domain.request import REFERENCES_MAX, ImageRequest
from bot.errors import InvalidRequest, JobNotFound, LimitReached
from bot.fleet.attempt import engine_request, lend_inputs
from bot.jobs.compose import Asked, Surroundings, compose, suited
from bot.jobs.queue import JobQueue
from bot.jobs.with_picture import holding, kept_of, submit_with_picture
from bot.pictures.parameters_written import png_texts
from bot.rules.limits import Limits
from bot.rules.preferences import Preferences
from storage import deliveries, jobs
from storage.clock import DAY_S
from storage.input_pictures import GivenInputs
from storage.plain_files import UntrustedFileError
from tests.jobs.kit import MODEL, make_origin, make_request, refused

GIVEN = GivenInputs(None, (b"first", b"second"), b"mask")


async def submitted(queue, store, given=GIVEN, user=1, **changes):
    """Submit a request with files, as the doors do."""
    job_id, request = queue.new_job_id(), make_request(**changes)

    async def prepare() -> ImageRequest:
        return holding(request, await store.inputs.keep(job_id, given))

    return await submit_with_picture(
        queue, store.inputs, request, make_origin(user), prepare, job_id=job_id
    )


async def drawn(queue, store, job, data: bytes):
    """Draw a job, which is the next one: one picture of these bytes, in a second a unit of work."""
    assert (await queue.get()).id == job.id
    job = await queue.job(job.id)
    source = store.work_dir(job.id) / "0.png"
    source.write_bytes(data)
    record = await store.keep(job.id, 0, source, width=256, height=256, seed=0)
    seconds = {"denoise": job.request.megapixel_steps}
    assert await queue.commits.record_generated(job, [record], seconds, None, MODEL)
    return record


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"references": ("a",) * (REFERENCES_MAX + 1)}, "at most 10 pictures; 11 came"),
        ({"mask": "m"}, "Add the picture under the mask"),
        ({"mask": "m", "references": ("r",)}, "Add the picture under the mask"),
        ({"mask": "m", "input_image": "i", "place": (0, 0, 16, 16)}, "not both"),
        ({"place": (0, 0, 16, 16), "strength": 0.5}, "Strength has no effect"),
        ({"place": (0, 0, 256, 256)}, "leave room"),
        ({"place": (-1, 0, 16, 16)}, "inside the larger"),
        ({"place": (250, 0, 16, 16)}, "inside the larger"),
        ({"place": (0, 0, 0, 16)}, "inside the larger"),
    ],
)
def test_files_that_contradict_one_another_are_one_sentence(changes, words):
    with refused(InvalidRequest, words):
        make_request(**changes)


def test_a_request_is_read_as_it_was_stored_and_old_ones_have_no_files():
    whole = make_request(references=("a", "b"), input_image="a", mask="m", mask_inverted=True)
    assert ImageRequest.from_json(whole.to_json()) == whole
    placed = make_request(input_image="a", place=(16, 0, 128, 256))
    assert ImageRequest.from_json(placed.to_json()) == placed
    old = json.loads(make_request().to_json())
    for name in ("references", "references_once", "mask", "mask_inverted", "place"):
        del old[name]
    assert ImageRequest.from_json(json.dumps(old)) == make_request()
    assert whole.without_inputs() == make_request()


def test_references_count_by_the_formula_of_the_docs():
    """docs/limits.md: R x (0.8 + 0.2 x (2A + R)) beside A, all in megapixels."""
    size = {"width": 1344, "height": 768, "steps": 10}
    own = make_request(**size).megapixel_steps
    assert own == pytest.approx(10.32192)
    for count, expected in ((1, 2.5), (3, 6.7)):
        edit = make_request(**size, references=("r",) * count)
        assert edit.megapixel_steps / own == pytest.approx(expected, abs=0.1)
        assert make_request(
            **size, references=("r",) * count, count=2, guidance=1.0
        ).megapixel_steps == pytest.approx(edit.megapixel_steps)


def test_references_that_are_gone_through_once_count_so():
    """docs/limits.md: A + 0.2 x A x R a step, and once R x (0.8 + 0.2 x R)."""
    size = {"width": 1344, "height": 768, "steps": 40, "references_once": True}
    own, area = make_request(**size).megapixel_steps, 1344 * 768 / 1e6
    assert own == pytest.approx(40 * area)
    for count, expected in ((1, 1.2), (10, 3.8)):
        edit, shown = make_request(**size, references=("r",) * count), count * area
        once = shown * (0.8 + 0.2 * shown)
        assert edit.megapixel_steps == pytest.approx(own * (1 + 0.2 * shown) + once)
        assert edit.megapixel_steps / own == pytest.approx(expected, abs=0.05)
        # Once for all pictures; half of it without guidance, but all of it where steps are spared.
        several = replace(edit, count=4)
        assert several.megapixel_steps == pytest.approx(4 * edit.megapixel_steps - 3 * once)
        alone = replace(edit, guidance=1.0)
        assert alone.megapixel_steps == pytest.approx(edit.megapixel_steps / 2)
        spared = replace(edit, reuse=0.1)
        assert spared.megapixel_steps - once == pytest.approx(0.7 * (edit.megapixel_steps - once))
    small = make_request(references=("r",), references_once=True)
    assert small.megapixel_steps < make_request(references=("r",)).megapixel_steps


@pytest.mark.parametrize(
    ("name", "once"),
    [
        ("Qwen/Qwen-Image-2.1", True),
        ("Qwen/Qwen-Image-2.1-Turbo", True),
        ("Qwen/Qwen-Image-Edit-2511", False),
        ("tiny-edit", False),
    ],
)
async def test_the_model_says_how_references_count(queue, store, database, name, once):
    model = find_model(name)
    request = compose(Asked("make it night"), Surroundings(model))
    assert request.references_once is once
    assert suited(replace(request, references_once=not once), model) == request
    job = (await submitted(queue, store, references_once=request.references_once)).job
    work = await database.read(lambda tx: tx.value("SELECT work FROM jobs WHERE id = ?", (job.id,)))
    plain = replace(job.request, references_once=False).megapixel_steps
    assert (work < plain) is once
    assert work == pytest.approx(job.request.megapixel_steps)


async def test_references_are_charged_before_anything_is_drawn(database, store, clock):
    """The limit in seconds is asked again once it is known how many there are."""
    queue = JobQueue(database, Limits(gpu_seconds_per_day=4), model=MODEL, clock=clock)
    await drawn(queue, store, (await queue.submit(make_request(), make_origin(9))).job, b"x")
    assert (await queue.submit(make_request(), make_origin(1))).job
    with pytest.raises(LimitReached):
        await submitted(queue, store, user=2)
    assert await asyncio.to_thread(store.inputs.job_ids) == set()


async def test_files_are_kept_lent_and_read_by_their_hashes(queue, store):
    job = (await submitted(queue, store)).job
    request = job.request
    assert request.input_image == request.references[0], "the first one is what stays"
    assert request.mask is not None
    asked = engine_request(job, store, MODEL, None)
    lend_inputs(job, store, asked)
    assert asked.input_image.read_bytes() == b"first"
    assert asked.mask.read_bytes() == b"mask"
    assert [path.read_bytes() for path in asked.references] == [b"first", b"second"]
    stronger = replace(job, request=request.with_changes(strength=0.5))
    assert engine_request(stronger, store, MODEL, None).strength is None
    gallery = Gallery(queue._database, store, queue)
    assert await gallery.read_inputs(job) == GIVEN
    # Not another job's, and not a file that has come in its place.
    with pytest.raises(UntrustedFileError):
        store.inputs.load("another", request.mask)
    with pytest.raises(UntrustedFileError):
        store.inputs.load(job.id, f"{job.id}.input/../../x")
    store.inputs.path(request.mask).write_bytes(b"exchanged")
    with pytest.raises(JobNotFound):
        await gallery.read_inputs(job)
    asked.mask.unlink()
    lend_inputs(job, store, asked)
    assert not asked.mask.exists(), "the engine says that it is missing"


async def test_a_picture_says_nothing_of_the_files_but_that_there_were_some(queue, store):
    job = (await submitted(queue, store)).job
    (texts,) = png_texts(job.id, job.request, MODEL)
    told = json.loads(texts["request"])
    assert (told["references"], told["mask"]) == (["reference1", "reference2"], "mask")
    assert all(
        hashlib.sha256(data).hexdigest() not in texts["request"] for data in GIVEN.references
    )


async def test_files_go_with_their_job_and_stay_with_it_at_a_start(queue, store, database):
    given = GivenInputs(references=(b"only",))
    kept, gone = [(await submitted(queue, store, given)).job for _ in range(2)]
    await store.inputs.keep("0" * 18, GIVEN)
    gallery = Gallery(database, store, queue)
    await gallery.start()
    assert store.inputs.job_ids() == {kept.id, gone.id}
    await queue.cancel(gone.id, by=1)
    await gallery.delete(await queue.job(gone.id), by=1)
    assert store.inputs.job_ids() == {kept.id}


async def test_files_go_when_their_job_is_swept(queue, store, database, clock):
    """References and mask of an edit that RETENTION_DAYS are over for; a younger one keeps its."""
    privacy = Privacy(database, store, Preferences(database), queue, keep_days=7, clock=clock)

    async def ended(day: int):
        job = (await submitted(queue, store)).job
        await drawn(queue, store, job, b"drawn on day %d" % day)
        await database.write(partial(deliveries.taken, job_id=job.id, now=clock.now))
        return job

    old = await ended(0)
    assert len(kept_of(old.request).names) == 3
    young = None
    for day in range(9):
        if day == 4:
            young = await ended(day)
        assert await privacy.sweep() == 0, day
        assert old.id in store.inputs.job_ids(), day
        clock.now += DAY_S
    assert await privacy.sweep() == 1
    assert store.inputs.job_ids() == {young.id}
    left = {file.name for file in store.inputs.files()}
    assert left == set(kept_of(young.request).names)
    assert await Gallery(database, store, queue).read_inputs(await queue.job(young.id)) == GIVEN


async def test_an_export_has_every_file_once_and_goes_on_between_them(queue, store, database):
    job = (await submitted(queue, store, GivenInputs(b"own", (b"first", b"second"), b"m"))).job
    await drawn(queue, store, job, b"a picture")
    privacy = Privacy(database, store, Preferences(database), queue)
    parts = [part async for part in privacy.export(1, 10**6)]
    (whole,) = parts
    with zipfile.ZipFile(io.BytesIO(whole.data)) as archive:
        names = [name for name in archive.namelist() if "/" in name]
        contents = [archive.read(name) for name in names]
    assert names == [
        f"inputs/{job.id}.input", f"pictures/{job.id}_0.png", f"inputs/{job.id}.mask",
        f"inputs/{job.id}.reference1", f"inputs/{job.id}.reference2",
    ]  # fmt: skip
    assert contents == [b"own", b"a picture", b"m", b"first", b"second"]
    after = await privacy.place(1, f"{job.id}.10")
    (rest,) = [part async for part in privacy.export(1, 10**6, after)]
    with zipfile.ZipFile(io.BytesIO(rest.data)) as archive:
        left = [name for name in archive.namelist() if "/" in name]
    assert left == names[3:]


async def test_whoever_deletes_takes_the_copies_of_their_pictures_along(queue, store, database):
    """A's picture is the reference of two jobs of B's, one of which still waits."""
    privacy = Privacy(database, store, Preferences(database), queue)
    anns = (await queue.submit(make_request(), make_origin(1))).job
    await drawn(queue, store, anns, b"ann's picture")
    given = GivenInputs(references=(b"ann's picture", b"ben's own"))
    ended = (await submitted(queue, store, given, user=2)).job
    bens = await drawn(queue, store, ended, b"ben's picture")
    waiting = (await submitted(queue, store, given, user=2)).job
    await privacy.delete(1)
    left = {file.name for file in store.inputs.files()}
    assert left == {ended.request.references[1], *waiting.request.references}
    assert store.read(bens) == b"ben's picture", "what B drew stays B's"
    with pytest.raises(JobNotFound):
        await Gallery(database, store, queue).read_inputs(ended)
    await drawn(queue, store, waiting, b"drawn after all")
    # What waited keeps its copies after it has ended, too (docs/privacy.md): B rerolls from them.
    assert {file.name for file in store.inputs.files()} == left
    kept = await Gallery(database, store, queue).read_inputs(await queue.job(waiting.id))
    assert kept.references == given.references
    # The other way round: B's deletion takes B's copies, and nothing of A's.
    anns = (await queue.submit(make_request(), make_origin(1))).job
    picture = await drawn(queue, store, anns, b"ann's next picture")
    given = GivenInputs(references=(b"ann's next picture",))
    job = (await submitted(queue, store, given, user=2)).job
    await drawn(queue, store, job, b"ben's next")
    await privacy.delete(2)
    assert store.inputs.job_ids() == set()
    assert store.read(picture) == b"ann's next picture"
    assert await database.read(partial(jobs.find, job_id=anns.id)) is not None
    assert kept_of(anns.request).names == ()
