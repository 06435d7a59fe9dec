"""The doctor's checks on a machine, an account and a hub that the tests make up."""

from __future__ import annotations

import json
import struct
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

QWEN = {
    "transformer": ("diffusion_pytorch_model-00001-of-00002", "diffusion_pytorch_model-00002-of-00002"),
    "text_encoder": ("model-00001-of-00001",),
    "vae": ("diffusion_pytorch_model",),
}  # fmt: skip


class StandIn:
    """An HTTP server of made-up answers: `answers[path] = (status, body)`, 404 for the rest."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.ahead_s = 0.0
        self.tokens: list[str | None] = []
        self.silent = threading.Event()
        self._go_on = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.tokens.append(self.headers.get("Authorization"))
                if outer.silent.is_set():
                    outer._go_on.wait()
                    return
                status, body = outer.answers.get(self.path, (404, {}))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def date_time_string(self, timestamp: float | None = None) -> str:
                import time

                return formatdate((timestamp or time.time()) + outer.ahead_s, usegmt=True)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def safetensors(path: Path, size: int = 64) -> Path:
    """Write a sound file with one tensor of `size` bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return path


def lora(path: Path, *endings: str, layer: str = "img_in", **metadata: str) -> Path:
    """Write a LoRA of one layer, with these tensors besides."""
    names = [f"{layer}.{end}" for end in ("lora_A.weight", "lora_B.weight", *endings)]
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for place, name in enumerate(names):
        offsets = [64 * place, 64 * (place + 1)]
        header[name] = {"dtype": "F32", "shape": [4, 4], "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64 * len(names)))
    return path


def whole_model(root: Path) -> list[Path]:
    """Write a complete model of the full size's layout; return its weight files."""
    files = [
        safetensors(root / f / f"{name}.safetensors") for f, names in QWEN.items() for name in names
    ]
    (root / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (root / "tokenizer" / name).write_text("{}")
    return files


def program(folder: Path, name: str, script: str) -> None:
    """Write a shell script that stands for a program."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
