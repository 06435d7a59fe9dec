"""What ENGINES=ray refuses at the start, in a sentence; none of it needs a cluster."""

from __future__ import annotations

import importlib.util
import socket
import threading

import pytest

from bot.config.settings import Settings, load_settings
from bot.engine.cluster.hub import Hub, driver_environment, require_ray
from bot.engine.cluster.threads import in_thread
from bot.errors import ConfigError, StartupError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install -r requirements-ray.txt",
)


def test_without_ray_its_requirements_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(StartupError, match=r"pip install -r requirements-ray\.txt"):
        require_ray(None)


@needs_ray
def test_an_address_that_is_none_is_refused():
    with pytest.raises(StartupError, match=r"such as 10\.0\.0\.1:6379; the Ray client \(ray://\)"):
        require_ray("ray://10.0.0.1:10001")
    for address in ("auto", "10.0.0.1", "10.0.0.1:x"):
        with pytest.raises(StartupError, match="RAY_ADDRESS is a host and a port"):
            require_ray(address)


async def test_where_nothing_listens_nothing_is_started():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for port in (taken.getsockname()[1], 99999):
            with pytest.raises(StartupError, match="No Ray cluster can be reached"):
                await Hub.join(f"127.0.0.1:{port}")


def test_the_driver_gets_rays_settings_and_no_secret(monkeypatch):
    for name in ("DISCORD_TOKEN", "API_KEYS", "RAY_ADDRESS", "RAY_TLS_CA_CERT"):
        monkeypatch.setenv(name, "value")
    given = driver_environment()
    assert given["RAY_TLS_CA_CERT"] == "value"
    assert not {"DISCORD_TOKEN", "API_KEYS", "RAY_ADDRESS"} & given.keys()


def test_the_setting(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_settings(engines="ray").engines == "ray"
    assert Settings(engines="ray", ray_address="10.0.0.1:6379").local_engines is None
    with pytest.raises(ConfigError, match="local, local:N for N engines, or ray"):
        load_settings(engines="ray:2")


async def test_a_call_that_hangs_is_left_behind():
    never = threading.Event()
    with pytest.raises(TimeoutError):
        await in_thread(0.01, never.wait)
    never.set()
    with pytest.raises(ZeroDivisionError):
        await in_thread(10, lambda: 1 // 0)
