"""Acts of misbehaving.py that spoil what the child tells of its pictures, or the pictures themselves."""

from __future__ import annotations

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
