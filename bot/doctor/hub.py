"""Checks of the model hub: the login, and whether it answers."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bot.config.proxy import proxy_for
from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.engine.files.download import modelscope_endpoint
from bot.engine.files.fetch import why
from bot.errors import ConfigError

_PATIENCE_S: Final = 10.0


def model_hub(settings: Settings) -> Iterator[Finding]:
    """Ask Hugging Face who we are, or ModelScope for the models; the token is never shown."""
    if all(spec.built_in for spec in settings.models):
        yield Finding("model hub", Level.OK, "not needed by the tiny model")
        return
    try:
        yield from _asked(settings)
    except ConfigError as error:
        yield Finding("model hub", Level.WARNING, str(error), "downloads fail with it")


def _asked(settings: Settings) -> Iterator[Finding]:
    if settings.model_source == "modelscope":
        endpoint = modelscope_endpoint()
        yield from _reached(settings, endpoint, f"{endpoint}/api/v1/models")
        return
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "ON", "YES"}:
        yield Finding("model hub", Level.OK, "not asked (HF_HUB_OFFLINE)")
        return
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = _token()
    if token is None:
        yield from _reached(settings, endpoint, f"{endpoint}/api/models")
        return
    try:
        status, body = _get(f"{endpoint}/api/whoami-v2", token)
    except _FAILURES as error:
        yield _unreachable(endpoint, error)
        return
    if status == HTTPStatus.OK:
        name = str(body.get("name"))[:60]
        answers = f"{endpoint} answers{_through(endpoint)}"
        yield Finding("model hub", Level.OK, f"{answers}; logged in as {name}")
    elif status == HTTPStatus.UNAUTHORIZED:
        yield Finding(
            "model hub",
            Level.WARNING,
            f"{endpoint} refuses the stored token, and may refuse public models with it, too",
            "hf auth login with a new one, or hf auth logout (and remove HF_TOKEN)",
        )
    else:
        yield Finding(
            "model hub",
            Level.WARNING,
            f"{endpoint} answered {status}",
            "try again later; a complete model needs no hub",
        )


def _reached(settings: Settings, endpoint: str, models: str) -> Iterator[Finding]:
    """Ask for each model that has files, at the address `models`; one that is silent once."""
    for spec in settings.models:
        if spec.built_in:
            continue
        try:
            status, _ = _get(f"{models}/{spec.name}", None)
        except _FAILURES as error:
            yield _unreachable(endpoint, error)
            return
        yield _answered(endpoint, status, spec.name)


def _answered(endpoint: str, status: int, model: str) -> Finding:
    if status == HTTPStatus.OK:
        return Finding(
            "model hub",
            Level.OK,
            f"{endpoint} answers{_through(endpoint)}; not logged in, which {model} does not need",
        )
    hint = "compare IMAGE_MODEL_NAME and the hub's address (docs/downloading.md)"
    if status in {401, 403}:
        hint = "hf auth login, where it is Hugging Face; ModelScope's logins are not supported"
    return Finding("model hub", Level.WARNING, f"{endpoint} answered {status} for {model}", hint)


def _unreachable(endpoint: str, error: Exception) -> Finding:
    reason = getattr(error, "reason", None) or why(error)
    return Finding(
        "model hub",
        Level.WARNING,
        f"{urlsplit(endpoint).hostname or endpoint} cannot be reached ({str(reason)[:120]})"
        f"{_through(endpoint)}",
        "check the network and HTTPS_PROXY; a complete model needs no hub (HF_HUB_OFFLINE=1 then)",
    )


def _through(endpoint: str) -> str:
    proxy = proxy_for(endpoint)
    return f", through the proxy {proxy}" if proxy else ""


def _token() -> str | None:
    """Return the token where the hub's client looks for it."""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    try:
        text = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text.strip() or None


_FAILURES: Final = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)


def _get(url: str, token: str | None) -> tuple[int, dict[str, Any]]:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("the hub's address is no http address")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
    proxy = proxy_for(url)
    through = {urlsplit(url).scheme: proxy.with_login()} if proxy else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(through))
    try:
        with opener.open(request, timeout=_PATIENCE_S) as reply:
            body: dict[str, Any] = json.loads(reply.read(2**20))
            return reply.status, body
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}
