"""What `.env` says to libraries reaches them."""

from __future__ import annotations

from bot.config.libraries import pass_on


def test_only_what_is_theirs_and_not_set_otherwise(tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "DISCORD_TOKEN=secret\nAPI_KEYS=secret\nHF_TOKEN='hf_x$y'\nHF_HUB_OFFLINE=1\n"
        "MODELSCOPE_ENDPOINT=http://a\nCUDA_VISIBLE_DEVICES=1\nhttps_proxy=http://p\nPATH=/tmp\n"
        "HF_ENDPOINT=\nHF_HOME=/b\n"
    )
    environment = {"HF_HOME": "/a"}
    pass_on(file, environment)
    assert environment == {
        "HF_HOME": "/a",
        "HF_TOKEN": "hf_x$y",
        "HF_HUB_OFFLINE": "1",
        "MODELSCOPE_ENDPOINT": "http://a",
        "CUDA_VISIBLE_DEVICES": "1",
        "https_proxy": "http://p",
        "NO_PROXY": "localhost,127.0.0.1,::1",  # else some would ask a proxy for this machine
    }


def test_a_file_that_cannot_be_read_is_no_matter_here(tmp_path):
    (tmp_path / "latin").write_bytes(b"HF_TOKEN=\xe4\n")
    for name in ("none", "latin"):
        environment: dict[str, str] = {}
        pass_on(tmp_path / name, environment)
        assert environment == {}
