"""Acts of misbehaving.py that spoil what the child tells of its pictures, or the pictures themselves."""

from __future__ import annotations

import io
import os
import random
import threading
import zlib
from pathlib import Path

from PIL import Image


def instead(report, kind: str, act) -> None:
    """Have `act(send, fields)` in the place of the next messages of that kind."""
    send = report.channel.send

    def changed(sent: str, /, tail: bytes = b"", **fields) -> None:
        if sent == kind:
            act(lambda **changes: send(kind, tail, **{**fields, **changes}), fields)
        else:
            send(sent, tail, **fields)

    report.channel.send = changed


def do_twice(request, report) -> None:
    instead(report, "picture", lambda send, _: [send(), send()])


def do_too_few(request, report) -> None:
    instead(report, "picture", lambda _, __: None)


def do_one_more(request, report) -> None:
    instead(report, "picture", lambda send, _: [send(), send(index=7)])


def do_other_seed(request, report) -> None:
    instead(report, "picture", lambda send, fields: send(seed=fields["seed"] + 1))


def do_other_size(request, report) -> None:
    instead(report, "picture", lambda send, _: send(width=16))


def do_outside(request, report) -> None:
    def act(send, fields) -> None:
        stray = request.output_dir.parent / "stray.png"
        Path(fields["path"]).replace(stray)
        send(path=str(stray))

    instead(report, "picture", act)


def do_symlink(request, report) -> None:
    def act(send, fields) -> None:
        path = Path(fields["path"])
        stray = path.replace(request.output_dir / "stray.png")
        path.symlink_to(stray)
        send()

    instead(report, "picture", act)


def do_hard_link(request, report) -> None:
    """Give a file of the host the picture's name: the same inode, no link to follow."""

    def act(send, fields) -> None:
        path = Path(fields["path"])
        secret = path.replace(request.output_dir.parent / "secret.png")
        os.link(secret, path)
        send()

    instead(report, "picture", act)


def do_linked_folder(request, report) -> None:
    """Put a link in the place of the whole folder."""

    def act(send, _fields) -> None:
        folder = request.output_dir
        elsewhere = folder.with_name(f"{folder.name}-{len(list(folder.parent.iterdir()))}")
        folder.symlink_to(folder.rename(elsewhere))
        send()

    instead(report, "picture", act)


def do_fifo(request, report) -> None:
    """Put something there that never ends a reader's wait."""

    def act(send, fields) -> None:
        Path(fields["path"]).unlink()
        os.mkfifo(fields["path"])
        send()

    instead(report, "picture", act)


def do_sparse(request, report) -> None:
    """Write a file of 3 GiB that takes no room, in which one chunk claims all of it."""

    def act(send, fields) -> None:
        with Path(fields["path"]).open("r+b") as file:
            file.seek(33)  # behind the signature and IHDR
            file.truncate()
            file.write((3 * 2**30 - 100).to_bytes(4, "big") + b"IDAT")
            file.truncate(3 * 2**30)
        send()

    instead(report, "picture", act)


def do_goes_on(request, report) -> None:
    _spoil(report, lambda data: data + b"PK archive")


def do_many_chunks(request, report) -> None:
    """Write more chunks without anything in them than any picture has."""
    empty = bytes(4) + b"teSt" + zlib.crc32(b"teSt").to_bytes(4, "big")
    _spoil(report, lambda data: data[:33] + 21_000 * empty + data[33:])


def do_exchange(request, report) -> None:
    """Exchange a picture for a link to a file of the host once it was checked."""

    def act(send, fields) -> None:
        send()
        folder = request.output_dir
        while not (folder / "checked").exists():
            threading.Event().wait(0.01)
        Path(fields["path"]).unlink()
        Path(fields["path"]).symlink_to(folder.parent / "secret")

    instead(report, "picture", act)


def _spoil(report, spoil) -> None:
    def act(send, fields) -> None:
        path = Path(fields["path"])
        path.write_bytes(spoil(path.read_bytes()))
        send()

    instead(report, "picture", act)


def do_no_png(request, report) -> None:
    _spoil(report, lambda data: b"GIF89a" + data)


def do_truncated(request, report) -> None:
    _spoil(report, lambda data: data[:-20])


def do_damaged(request, report) -> None:
    _spoil(report, lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])


def do_empty_file(request, report) -> None:
    _spoil(report, lambda _: b"")


def do_small(request, report) -> None:
    def act(send, fields) -> None:
        Image.new("RGB", (16, 16)).save(fields["path"])
        send()

    instead(report, "picture", act)


def do_no_file(request, report) -> None:
    def act(send, fields) -> None:
        Path(fields["path"]).unlink()
        send()

    instead(report, "picture", act)


def do_nan(request, report) -> None:
    instead(report, "finished", lambda send, _: send(timings={"total": float("nan")}))


def do_peak(request, report) -> None:
    instead(report, "finished", lambda send, _: send(peak_gpu_bytes=10**30))


def do_junk_preview(request, report) -> None:
    report.preview(1, b"MZ" + bytes(1000))


def do_wide_preview(request, report) -> None:
    picture = io.BytesIO()
    Image.new("L", (request.width * 4, 8)).save(picture, "JPEG")
    report.preview(1, picture.getvalue())


def do_json_bomb(request, report) -> None:
    """Say something whose few megabytes of JSON are a hundred of objects."""
    body = b'{"type":"step","x":[' + b"[]," * 1_300_000 + b"0]}\n"
    report.channel.write(len(body).to_bytes(4, "big") + body)
    threading.Event().wait()


def do_preview_flood(request, report) -> None:
    """Send large frames of no use faster than anybody reads."""
    tail = random.randbytes(4 * 2**20 - 1000)
    for _ in range(200):
        report.channel.send("preview", job=request.job_id, step=1, tail=tail)


def do_same_step(request, report) -> None:
    """Say for ever that the first step is done."""
    while True:
        report.step(1, 2)
        threading.Event().wait(0.01)


def do_same_stages(request, report) -> None:
    """Go back and forth between two activities for ever."""
    while True:
        for activity in ("decode", "denoise"):
            report.channel.send("stage", job=request.job_id, activity=activity)
            threading.Event().wait(0.01)


def do_step_flood(request, report) -> None:
    """Say for ever that the first step is done, as fast as the pipe takes it."""
    while True:
        report.channel.send("step", job=request.job_id, index=1, total=2)


def do_log_flood(request, report) -> None:
    for number in range(20_000):
        os.write(2, b"line %d of far too many\n" % number)


def do_heartbeat_flood(request, report) -> None:
    for _ in range(20_000):
        report.channel.send("heartbeat")
