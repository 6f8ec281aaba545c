"""A web server on this machine that breaks off, lies about sizes, redirects or changes its files.

It answers a bounded number of requests, and only to this machine.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler

import loopback

MOST_REQUESTS = 50


@dataclass
class UnreliableServer:
    """What it serves, and how.

    Args:
        files: From path to content.
        breaks_after: Bytes after which it breaks off an answer; one number a request.
        tells_versions: With an ETag.
        ignores_ranges: Always sends the file from its beginning.
        says: Adds to the Content-Length.
        redirects: From path to the address it redirects to, with the hash told as the Hub does.
        needs: The token that it asks for.
        requests: Method, path and headers of each request so far.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)
    tells_versions: bool = True
    ignores_ranges: bool = False
    says: int = 0
    redirects: dict[str, tuple[str, str]] = field(default_factory=dict)
    needs: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def ranges(self) -> list[str | None]:
        """The Range header of each GET."""
        return [headers.get("Range") for method, _, headers in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    serves: UnreliableServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.serves
        path = self.path.partition("?")[0]
        server.requests.append((self.command, path, dict(self.headers)))
        self.close_connection = True
        if len(server.requests) > MOST_REQUESTS:
            return self.send_error(500, "too many requests")
        if server.needs and self.headers.get("Authorization") != f"Bearer {server.needs}":
            return self.send_error(401)
        if path in server.redirects:
            return self._redirect(*server.redirects[path])
        if path not in server.files:
            return self.send_error(404)
        self._send(server.files[path])

    def _redirect(self, address: str, told: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("X-Linked-ETag", f'"{told}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes) -> None:
        server, version = self.serves, f'"{sha256(content).hexdigest()[:16]}"'
        begin = 0
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") == (version if server.tells_versions else None)
        if wanted and not server.ignores_ranges and same:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                return self.send_error(416)
        self.send_response(206 if begin else 200)
        if server.tells_versions:
            self.send_header("ETag", version)
        self.send_header("Content-Length", str(len(content) - begin + server.says))
        self.end_headers()
        stop = server.breaks_after.pop(0) if server.breaks_after else len(content)
        self.wfile.write(content[begin : begin + stop])

    def log_message(self, *arguments):
        pass


def serving(
    server: UnreliableServer, handler: type[Handler] = Handler
) -> AbstractContextManager[UnreliableServer]:
    """Serve on a free port of the loopback address; sets ``address``."""
    return loopback.serving(server, handler)
