"""A web server on this machine that is slow, breaks off, answers with errors and damages bytes."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import loopback

MOST_REQUESTS = 500


@dataclass
class WebServer:
    """What it serves, and how.

    Args:
        files: From path to content.
        faults: What is wrong with each answer to a GET of a chunk, in order; "" is nothing: "break"
            (off in the middle), "damage" (a bit, each time another one), "hang", or a status.
        always: What is wrong with all answers, from ``faults``' end on.
        takes_ranges: Otherwise whole files are sent.
        etag: The ETag of a content, if it is told.
        seconds: That each answer takes.
        got: The path of each GET so far, with the bytes that were sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    always: str = ""
    takes_ranges: bool = True
    etag: Callable[[bytes], str] | None = None
    seconds: float = 0.0
    got: list[tuple[str, int]] = field(default_factory=list)
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def chunks(self) -> list[str]:
        """Chunks that were asked for."""
        return [path for path, _ in self.got if path.endswith(".torch")]

    def add(self, root: Path) -> None:
        """Serve a folder's files."""
        for path in root.rglob("*"):
            if path.is_file():
                self.files[f"/{path.relative_to(root)}"] = path.read_bytes()


class Handler(BaseHTTPRequestHandler):
    serves: WebServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server, content = self.serves, self.serves.files.get(self.path)
        self.close_connection = True
        fault = ""
        with server.lock:
            if len(server.got) > MOST_REQUESTS:
                return self.send_error(500, "too many requests")
            if body and self.path.endswith(".torch"):
                fault = server.faults.pop(0) if server.faults else server.always
        if fault.isdecimal():
            return self.send_error(int(fault))
        if content is None:
            return self.send_error(404)
        begin, end = 0, len(content)
        wanted = self.headers.get("Range")
        if body and wanted and server.takes_ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last) + 1, len(content))
            self.send_response(206)
        else:
            self.send_response(200)
        if server.etag is not None:
            self.send_header("ETag", f'"{server.etag(content)}"')
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if body:
            time.sleep(2.0 if fault == "hang" else server.seconds)
            self._send(content[begin:end], fault)

    def _send(self, data: bytes, fault: str) -> None:
        if fault == "damage":
            spoiled = bytearray(data)
            spoiled[len(self.serves.got) % len(data)] ^= 1
            data = bytes(spoiled)
        sent = data[: len(data) // 2] if fault == "break" else data
        with self.serves.lock:
            self.serves.got.append((self.path, len(sent)))
        try:
            self.wfile.write(sent)
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


def serving(server: WebServer) -> AbstractContextManager[WebServer]:
    """Serve on a free port of the loopback address; sets ``address``."""
    return loopback.serving(server, Handler)
