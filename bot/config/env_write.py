"""Values written into `.env`: comments and unknown lines stay, and it is whole at any moment."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from bot.config.meant import NOT_UTF8, check_encoding
from bot.errors import ConfigError

# What python-dotenv reads as it stands, without quotes.
_PLAIN: Final = re.compile(r"[\w./:@,+*~%=-]*")


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Return the text of a `.env` with these settings; `values` maps their names to what they are.

    The last line of a name counts, so that one is replaced; else the commented-out line of it, as
    `.env.example` has one for each setting; else a line is added. Everything else stays as it is.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    pieces = [binding.original.string for binding in parse_stream(io.StringIO(text))]
    names = [binding.key for binding in parse_stream(io.StringIO(text))]
    for name, value in values.items():
        line = f"{name}={_quoted(value)}{newline}"
        places = [i for i, key in enumerate(names) if key and key.upper() == name]
        commented = re.compile(rf"^#[ \t]*{name}=.*$\r?\n?", re.MULTILINE)
        if places:
            old = pieces[places[-1]]
            pieces[places[-1]] = old[: len(old) - len(old.lstrip())] + line
            continue
        for i, piece in enumerate(pieces):
            if names[i] is None and commented.search(piece):
                pieces[i] = commented.sub(lambda _, line=line: line, piece, count=1)
                break
        else:
            if pieces and not pieces[-1].endswith("\n"):
                pieces[-1] += newline
            pieces.append(line)
            names.append(name)
    return "".join(pieces)


def write_env(file: Path, values: Mapping[str, str], *, template: str = "") -> None:
    """Put `values` into `file` at once or not at all, for its owner alone (mode 0600).

    A file that is not there begins as `template`; a link stays one, and what it points to is
    written. Raises `ConfigError` with a sentence that shows no value.
    """
    target, marked = file.resolve(), False
    text = template
    try:
        if target.exists():
            check_encoding(target)
            raw = target.read_bytes()
            marked = raw.startswith(codecs.BOM_UTF8)  # as Windows' editors write it
            text = raw.decode("utf-8-sig")
        content = with_values(text, values).encode()
        _replace(target, codecs.BOM_UTF8 + content if marked else content)
    except UnicodeDecodeError:
        raise ConfigError(NOT_UTF8) from None
    except OSError as error:
        raise ConfigError(
            f"{file.name} cannot be written ({error.strerror}): give yourself the right to write "
            f"to it and to {target.parent}, or write these lines by hand: {', '.join(values)}."
        ) from None


def _replace(target: Path, content: bytes) -> None:
    partial = target.with_name(f"{target.name}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _quoted(value: str) -> str:
    r"""Return a value as python-dotenv reads it: in single quotes a \ stands before \ and '."""
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
