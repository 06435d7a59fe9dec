"""Settings: `.env.example` in step, one plain sentence for what is wrong, no value shown."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO

import dotenv.parser
import pytest

from bot.app.limits import limits_of
from bot.cli.main import main
from bot.config.checks import no_bot_token
from bot.config.env_example import env_example
from bot.config.libraries import pass_on
from bot.config.settings import Settings, load_settings
from bot.config.wrong import WrongSettings
from bot.errors import ConfigError

ROOT = Path(__file__).parent.parent
REAL_LOOKING = "MTIzNDU2Nzg5MDEyMzQ1Njc4" + ".G1AbCd." + "x" * 38


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_example_is_in_step():
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_every_field_is_described():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_example_with_every_line_active_is_valid(tmp_path, monkeypatch):
    lines = [line.removeprefix("# ") for line in env_example().splitlines() if "=" in line]
    (tmp_path / ".env").write_text("\n".join(lines))
    # Of what has no default the example has an example.
    given = {n: f.examples[0] for n, f in Settings.model_fields.items() if f.examples}
    assert load_settings() == Settings(_env_file=None, **given)


def test_every_limit_of_the_settings_reaches_the_rules():
    names = [name for name in Settings.model_fields if name.startswith("limit_")]
    numbers = dict(zip(names, range(11, 11 + len(names)), strict=True))
    limits = asdict(limits_of(load_settings(**numbers)))
    assert limits.pop("by_key") == {}
    assert sorted(limits.values()) == sorted(numbers.values())


def test_env_file_and_environment_are_read(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("IMAGE_MODEL_NAME=tiny\nLIMIT_OPEN_JOBS=7\nOWNER_IDS=1, 22\n")
    monkeypatch.setenv("LIMIT_OPEN_JOBS", "9")
    settings = load_settings()
    assert settings.image_model_name == "tiny"
    assert settings.limit_open_jobs == 9
    assert settings.owner_ids == {1, 22}


@pytest.fixture(params=[False, True], ids=["this dotenv", "an older dotenv"])
def _dotenvs(request, monkeypatch):
    """Before 1.2 python-dotenv did not know of byte-order marks."""

    class Older(dotenv.parser.Reader):
        def __init__(self, stream: IO[str]) -> None:
            text = stream.read()
            mark = "\ufeff" if text.startswith("\ufeff") else ""
            super().__init__(io.StringIO(mark + text))  # which takes one away

    if request.param:
        monkeypatch.setattr(dotenv.parser, "Reader", Older)


@pytest.mark.usefixtures("_dotenvs")
def test_a_byte_order_mark_hides_no_setting(tmp_path, capsys):
    text = "IMAGE_MODEL_NAME=tiny\nLIMIT_OPEN_JOBS=7\n"
    (tmp_path / ".env").write_text(text, encoding="utf-8-sig")
    settings = load_settings()
    assert (settings.image_model_name, settings.limit_open_jobs) == ("tiny", 7)
    (tmp_path / ".env").write_text("HF_HOME=/a\n", encoding="utf-8-sig")
    environment: dict[str, str] = {}
    pass_on(tmp_path / ".env", environment)
    assert environment == {"HF_HOME": "/a"}
    main(["doctor", "--only", "setting names"])
    assert "every name in .env is a setting" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_file_in_another_encoding_is_one_sentence(tmp_path, capsys, encoding):
    text = "IMAGE_MODEL_NAME=tiny\n" + ("# \u00e4\n" if encoding == "latin-1" else "")
    (tmp_path / ".env").write_bytes(text.encode(encoding))
    assert main(["run"]) == 78
    (said,) = capsys.readouterr().err.splitlines()
    assert "save it again as UTF-8" in said


PATHS = [name for name, info in Settings.model_fields.items() if info.annotation is Path]


@pytest.mark.parametrize("name", [*PATHS, "log_dir", "hf_home"])
@pytest.mark.parametrize("folder", [r"D:\bots\new\tiny", r"D:\fonts", r"\\nas\art"])
def test_a_windows_path_in_double_quotes_is_one_sentence(
    tmp_path, monkeypatch, capsys, name, folder
):
    monkeypatch.setenv(name.upper(), "taken back afterwards")
    monkeypatch.delenv(name.upper())
    (tmp_path / ".env").write_text(f'{name.upper()}="{folder}"\n')
    assert main(["run"]) == 78
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Wrong setting: {name.upper()}: it has control characters")
    assert "single quotes" in said
    assert {path.name for path in tmp_path.iterdir()} == {".env"}


@pytest.mark.parametrize("quote", ["'", ""])
def test_a_windows_path_otherwise_is_taken_as_it_stands(tmp_path, quote):
    folder = r"D:\bots\new\tiny"
    (tmp_path / ".env").write_text(f"DATA_DIR={quote}{folder}{quote}\n")
    assert load_settings().data_dir == Path(folder)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("image_model_name", "secret-model", "Qwen/Qwen-Image"),
        ("image_gpu_memory_utilization", "7.125", "1 or less"),
        ("limit_open_jobs", "xyzzy", "whole number"),
        ("owner_ids", "xyzzy", "commas"),
        ("discord_api_url", "https://example.org/api/v10", "this machine"),
        ("discord_api_url", "ftp://127.0.0.1", "this machine"),
        ("log_level", "LOUD", "DEBUG"),
    ],
)
def test_a_wrong_value_is_one_sentence_without_the_value(monkeypatch, name, value, word):
    monkeypatch.setenv(name.upper(), value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    sentence = str(caught.value)
    assert name.upper() in sentence
    assert word in sentence
    assert value not in sentence
    assert "\n" not in sentence


def wrong(text: str) -> str:
    """Return what is said of a `.env` with this text."""
    Path(".env").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def test_the_line_is_named_and_shown(monkeypatch):
    text = "# mine\n\n\nLIMIT_OPEN_JOBS=5\nexport limit_open_jobs = '-3'  # few\n"
    assert wrong(text) == (
        "Wrong setting: LIMIT_OPEN_JOBS: it must be 1 or more "
        "(.env, line 5: limit_open_jobs='-3'  # few). See .env.example."
    )
    # The environment counts before the file, and what stands there is not shown.
    monkeypatch.setenv("LIMIT_OPEN_JOBS", "-77")
    said = wrong(text)
    assert "(set in the environment)" in said
    assert "77" not in said
    assert "line" not in said


def test_several_wrong_settings_are_lines_in_the_order_of_the_file():
    said = wrong("LOG_LEVEL=LOUD\nHTTP_PORT=eighty\n\nIMAGE_COMPILE=perhaps\n").splitlines()
    assert said == [
        "3 settings are wrong:",
        "  LOG_LEVEL: it must be DEBUG, INFO, WARNING or ERROR (.env, line 1: LOG_LEVEL=LOUD)",
        "  HTTP_PORT: it must be a whole number (.env, line 2: HTTP_PORT=eighty)",
        "  IMAGE_COMPILE: it must be true or false (.env, line 4: IMAGE_COMPILE=perhaps)",
        ".env.example describes them all.",
    ]


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("API_KEYS=me:abc", "me:abc"),
        (f"OWNER_IDS={REAL_LOOKING}", REAL_LOOKING),
        ("MODEL_SOURCE=hf_" + "Ab0" * 7, "Ab0"),
        ("HTTP_PUBLIC_URL=http://me:" + "pass@example.org", "pass"),
        (f"LIMIT_OPEN_JOBS=3 {REAL_LOOKING}", REAL_LOOKING),
    ],
)
def test_a_secret_in_a_line_is_not_shown(line, hidden):
    said = wrong(f"\n{line}\n")
    assert ".env, line 2" in said
    assert hidden not in said


def nonsense():
    """Yield every setting with texts that some kind of setting cannot take."""
    for name in Settings.model_fields:
        for value in ("x y\x07", "-1", "1e999", "nan", "9" * 5000, "0.5", "@", "none,"):
            yield name, value


@pytest.mark.slow
def test_what_is_wrong_is_said_in_our_own_words(monkeypatch):
    heard = set()
    for name, value in nonsense():
        monkeypatch.setenv(name.upper(), value)
        try:
            load_settings()
        except WrongSettings as error:
            heard.update(error.sentences)
        monkeypatch.delenv(name.upper())
    assert len(heard) > len(Settings.model_fields)
    pydantics = ("Input", "input", "should", "unable", "valid ", "alue error", "{", "exceeds")
    assert [one for one in heard if any(word in one for word in pydantics)] == []


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("abc", "client secret"),
        ("Bot " + REAL_LOOKING, "the word Bot"),
        (REAL_LOOKING[5:], "its first part is no bot's"),
        (REAL_LOOKING + ".x", "three parts"),
        ("a b.c.d", "three parts"),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_at_once(tmp_path, capsys, token, word):
    (tmp_path / ".env").write_text(f"\nDISCORD_TOKEN={token}\n")
    assert main(["run"]) == 78
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("DISCORD_TOKEN cannot be a bot's token: ")
    assert word in said
    assert "(.env, line 2)" in said
    assert token not in said
    assert {path.name for path in tmp_path.iterdir()} == {".env"}
    assert main(["doctor", "--only", "Discord,bot token"]) == 1
    said = capsys.readouterr().out
    assert word in said
    assert "Discord: not asked" in said
    assert token not in said


def test_a_token_of_the_right_form_is_discords_to_judge():
    assert no_bot_token(REAL_LOOKING) is None
    # 17 digits, as the oldest ids have; without padding, and with each of base64url's lengths.
    for digits in range(17, 21):
        first = base64.urlsafe_b64encode(b"1" * digits).decode().rstrip("=")
        assert no_bot_token(f"{first}.G1AbCd.{'-_' * 19}") is None


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "[::1]:99", "127.9.9.9"])
def test_loopback_addresses_are_accepted(host):
    assert load_settings(discord_api_url=f"http://{host}/api/v10/").discord_api_url == (
        f"http://{host}/api/v10"
    )


def test_a_real_token_goes_to_discord_alone(monkeypatch):
    monkeypatch.setenv("DISCORD_TOKEN", REAL_LOOKING)
    assert REAL_LOOKING not in repr(load_settings())
    with pytest.raises(ConfigError, match="looks real") as caught:
        load_settings(discord_api_url="http://127.0.0.1:1/api/v10")
    assert REAL_LOOKING not in str(caught.value)


@pytest.mark.slow
def test_a_missing_token_exits_with_78_and_a_hint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bot", "run"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 78
    assert "`python -m bot setup` asks for it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
