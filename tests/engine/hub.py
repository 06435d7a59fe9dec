"""A stand-in for the model hub: its API and its files over HTTP, with faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

REPOSITORY = "Qwen/Qwen-Image"
COMMIT = "c" * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hub:
    """Serves `files` as a repository. `sizes` and `hashes` replace what it says of them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.sizes: dict[str, int] = {}
        self.hashes: dict[str, str] = {}
        self.status: int | None = None
        """Answer the API with this instead."""
        self.unknown: set[str] = set()
        """Repositories that it has none of."""
        self.cuts: dict[str, list[int]] = {}
        """Close the connection after so many bytes of a file, once each."""
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and Range of each request."""
        self.tokens: set[str | None] = set()
        self.ranges = "as they should be"
        """How ranges are answered: "with 200", "with all", "elsewhere", "before", "with 416",
        "untold"."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bytes_sent_of(self, path: str) -> list[str | None]:
        """The ranges with which a file was fetched."""
        return [ranged for method, asked, ranged in self.asked if (method, asked) == ("GET", path)]

    def listing(self) -> bytes:
        siblings = [
            {
                "rfilename": path,
                "size": self.sizes.get(path, len(data)),
                "blobId": "b" * 40,
                "lfs": {
                    "sha256": self.hashes.get(path, sha256(data)),
                    "size": self.sizes.get(path, len(data)),
                    "pointerSize": 134,
                },
            }
            for path, data in self.files.items()
        ]
        return json.dumps(
            {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings}
        ).encode()

    def other_listing(self) -> bytes:
        """As ModelScope lists a repository."""
        files = [
            {
                "Path": path,
                "Size": self.sizes.get(path, len(data)),
                "Sha256": self.hashes.get(path, sha256(data)),
                "Type": "blob",
            }
            for path, data in self.files.items()
        ]
        folder = {"Path": "vae", "Size": 0, "Sha256": "", "Type": "tree"}
        return json.dumps({"Code": 200, "Data": {"Files": [folder, *files]}}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes: the second would wait 40 ms for the first's receipt.
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                """Tests read `asked`."""

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = urlsplit(self.path).path
                hub.tokens.add(self.headers.get("Authorization"))
                if path.startswith(("/api/models/", "/api/v1/models/")):
                    repository = "/".join(path.split("/models/")[1].split("/")[:2])
                    status = 404 if repository in hub.unknown else hub.status
                    if status is not None:
                        self.reply(status, b'{"error": "no"}', {}, body=body)
                    else:
                        head = {"Content-Type": "application/json"}
                        other = path.startswith("/api/v1/")
                        listing = hub.other_listing() if other else hub.listing()
                        self.reply(200, listing, head, body=body)
                    return
                name = re.split(r"/resolve/(?:main|master|c{40})/", path)[-1]
                data = hub.files.get(name)
                hub.asked.append((self.command, name, self.headers.get("Range")))
                if data is None:
                    self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                    return
                etag = f'"{hub.hashes.get(name, sha256(data))}"'
                head = {
                    "ETag": etag,
                    "X-Linked-ETag": etag,
                    "X-Linked-Size": str(len(data)),
                    "X-Repo-Commit": COMMIT,
                    "Accept-Ranges": "bytes",
                }
                status, start = 200, 0
                if (ranged := self.headers.get("Range")) and body:
                    start = int(ranged.removeprefix("bytes=").split("-")[0])
                    status = 206
                    match hub.ranges:
                        case "with 416":
                            self.reply(416, b"", {}, body=body)
                            return
                        case "with all":
                            status, start = 200, 0
                        case "with 200":
                            status = 200
                        case "elsewhere":
                            start = start * 2
                        case "before":
                            start = start // 2
                        case _:
                            pass
                    if hub.ranges not in {"with all", "untold"}:
                        head["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self.reply(status, data[start:], head, body=body, name=name)

            def reply(
                self, status: int, data: bytes, head: dict[str, str], *, body: bool, name: str = ""
            ) -> None:
                self.send_response(status)
                for key, value in head.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if not body:
                    return
                cuts = hub.cuts.get(name)
                if cuts:
                    self.wfile.write(data[: cuts.pop(0)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.wfile.write(data)

        return Handler
