"""A CONNECT proxy on loopback that notes what it is asked, and stands for Discord behind it."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "ann", "p@ss:word/1"
LOGIN = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
_PIECE = 2**16


def certificate(folder: Path, *names: str) -> Path:
    """Write a certificate of these hosts, signed by itself, and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.IPAddress(ipaddress.ip_address(name))
                    if name[0].isdigit()
                    else x509.DNSName(name)
                    for name in names
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


class ConnectProxy:
    """Takes CONNECT with a login; opens TLS itself for the `hosts` it stands for, refuses others.

    What is said within goes to the port of `hosts`. `asked` has each "CONNECT host:port".
    """

    def __init__(self, pem: Path | None = None, hosts: Mapping[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        self.wants_login = True
        self._hosts = dict(hosts or {})
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if pem is not None:
            self._tls.load_cert_chain(pem)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_login(self) -> str:
        return f"http://{USER}:p%40ss%3Aword%2F1@127.0.0.1:{self.port}"

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            head = self._head(client).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            login = re.search(
                r"^proxy-authorization: *(.+?)\r?$", head, re.MULTILINE | re.IGNORECASE
            )
            self.asked.append(f"{method} {target}")
            self.logins.append(login[1] if login else None)
            host = target.rpartition(":")[0]
            if self.wants_login and self.logins[-1] != LOGIN:
                status = "407 Proxy Authentication Required"
            elif method != "CONNECT" or host not in self._hosts:
                status = "502 Bad Gateway"
            else:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._stand_for(host, self._tls.wrap_socket(client, server_side=True))
                return
            client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            client.close()

    def _stand_for(self, host: str, client: ssl.SSLSocket) -> None:
        server = socket.create_connection(("127.0.0.1", self._hosts[host]))
        self._open += [client, server]
        threading.Thread(target=_pour, args=(server, client, {}), daemon=True).start()
        # The sandbox answers to its own name alone, and has its gateway elsewhere than at the root.
        changes = {f"Host: {host}\r\n".encode(): b"Host: 127.0.0.1\r\n"}
        if host.startswith("gateway."):
            changes[b"GET /?"] = b"GET /gateway?"
        _pour(client, server, changes)

    @staticmethod
    def _head(client: socket.socket) -> bytes:
        data = b""
        while not data.endswith(b"\r\n\r\n") and (more := client.recv(1)):
            data += more
        return data


def _pour(source: socket.socket, target: socket.socket, changes: Mapping[bytes, bytes]) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := source.recv(_PIECE):
            for old, new in changes.items():
                data = data.replace(old, new, 1)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
