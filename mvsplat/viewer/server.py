"""Serves pages to look at splats: one server on this machine, one session a page."""

import contextlib
import io
import logging
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mvsplat.export.cameras import load_cameras
from mvsplat.export.splats import load_splat
from mvsplat.viewer.following import Version, version_of
from mvsplat.viewer.library import Item, find_items
from mvsplat.viewer.scene import PageFrame, ViewedScene
from mvsplat.viewer.session import Session

DEFAULT_PORT = 8080
_log = logging.getLogger("mvsplat.viewer")


class Viewer:
    """A page in the browser to look at splats; everything is served from this machine.

    Files that are replaced meanwhile, as ``refine`` does, are shown anew; the camera stays.

    >>> with Viewer(["scene.ply"], port=0) as viewer:  # doctest: +SKIP
    ...     print(viewer.url)
    ...     viewer.wait()

    Args:
        paths: Splat files, run folders, folders written by ``reconstruct``.
        host: Address to listen at; the default is reached from this machine only.
        port: Port to listen at; 0 takes a free one.
        activated: Whether PLY files store opacities and scales as they are; see
            :func:`mvsplat.export.load_ply`.

    Raises:
        RuntimeError: viser is not installed.
        FileNotFoundError: A path is not there.
        ValueError: There is nothing to look at, or no splat can be read.
        OSError: The address or port cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        activated: bool | None = None,
    ):
        self._activated = activated
        self._items = self._from_first_usable(find_items(paths))
        _check_address(host, port)
        self._sessions: dict[int, Session] = {}
        self._server = _quiet_server(host, port)
        self._server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        # viser can share a page over its makers' relay on a page's request. Nothing leaves here.
        self._server.request_share_url = lambda *_, **__: None
        self._server.on_client_connect(self._open)
        self._server.on_client_disconnect(self._close)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._server.get_port()}"

    def _open(self, client: Any) -> None:
        self._sessions[client.client_id] = Session(client, self._items, self._load)

    def _close(self, client: Any) -> None:
        if session := self._sessions.pop(client.client_id, None):
            session.close()

    def _from_first_usable(self, items: list[Item]) -> list[Item]:
        """The items without those at the beginning that cannot be shown, which are named.

        Raises:
            OSError, ValueError: None can be shown.
        """
        for number, item in enumerate(items):
            try:
                self._load(item, version_of(item), None)
                return items[number:]
            except (ValueError, OSError) as error:
                if number + 1 == len(items):
                    raise
                _log.warning("left out: %s", error)
        return []

    def _load(self, item: Item, version: Version, frame: PageFrame | None) -> ViewedScene:
        return _read(item.ply, version, self._activated, frame)

    def wait(self) -> None:
        """Serve until the program is interrupted."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.sleep_forever()

    def stop(self) -> None:
        """Stop serving; open pages say that the connection is lost."""
        for session in self._sessions.values():
            session.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@lru_cache(maxsize=4)
def _read(
    ply: Path, version: Version, activated: bool | None, frame: PageFrame | None
) -> ViewedScene:
    gaussians = load_splat(ply, activated)
    if gaussians.means.shape[1] == 0:
        raise ValueError(f"{ply} has no Gaussians to show: it holds 0")
    cameras = None
    if version.cameras_file is not None:
        try:
            cameras = load_cameras(version.cameras_file)
        except (ValueError, OSError) as error:
            _log.warning("%s is shown without cameras: %s", ply, error)
    return ViewedScene(gaussians, cameras, frame)


def _quiet_server(host: str, port: int) -> Any:
    """viser's server without its banner, which names a second address and no scene."""
    try:
        import viser
    except ImportError as error:
        raise RuntimeError(
            f"the viewer needs viser ({error}): pip install 'mvsplat[view]'"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        return viser.ViserServer(host=host, port=port, label="mvsplat", verbose=False)


def _check_address(host: str, port: int) -> None:
    """viser would silently take the next port instead."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port}: expected 1 to 65535, or 0 for a free one")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; "
            "choose another with --port, or --port 0 for a free one"
        ) from error
