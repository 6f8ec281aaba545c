"""Serving over HTTP on this machine, for tests of what reads from elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(server, handler: type[BaseHTTPRequestHandler]) -> Iterator:
    """Serve on a free port of the loopback address; sets ``server.address``.

    Args:
        server: What is served, and how; the handler finds it as ``serves``.
        handler: Answers requests.
    """
    handler = type("Serving", (handler,), {"serves": server})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.address = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(5)
