"""One browser page: what it sees, where its camera is, and what its controls do.

Every page has a scene, a camera and controls of its own. All its work is done by one thread, in the
order in which it was asked for: a page that cannot keep up is sent less, and nothing needs a lock.
"""

import io
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.export.images import color_depth, to_pil
from mvsplat.files import file_name
from mvsplat.types import Gaussians
from mvsplat.viewer.controls import Actions, Controls
from mvsplat.viewer.following import Follower, Version, version_of
from mvsplat.viewer.frusta import Frusta
from mvsplat.viewer.library import Item
from mvsplat.viewer.notes import Notes
from mvsplat.viewer.scene import (
    DISTANCE,
    PageFrame,
    ViewedScene,
    fitting_tangent,
    pose_of,
    quaternion_of,
)
from mvsplat.viewer.splats import buffers

_REST = 0.25
"""Seconds without a movement after which the camera rests."""
_PATIENCE = 1.0
"""Seconds after which splats are sent again even though the camera still moves; more if large."""
_LARGE = 20_000_000
"""Bytes of a file that takes a while to read."""
_FRAME = 1 / 30
"""Seconds between two positions on the camera path."""
_LOOK = 1.0
"""Seconds between two looks at whether the shown files are still the same."""


Load = Callable[[Item, Version, PageFrame | None], ViewedScene]


class Session(Actions):
    """One page; its thread runs until :meth:`close`.

    Args:
        client: viser's handle of the page.
        items: All there is to look at.
        load: Reads an item's scene, in a given frame of the page or in its own.
    """

    def __init__(self, client: Any, items: list[Item], load: Load):
        self._client, self._load, self._notes = client, load, Notes(client)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._item: Item | None = None
        self._scene: ViewedScene | None = None
        self._follower: Follower | None = None
        self._cameras_shown: tuple[Any, ...] = ()
        self._looked_at = time.monotonic()
        self._splats: Any = None
        self._frusta = Frusta(client.scene, [], self.go_to)
        self._moved_at: float | None = None
        self._drawn_at = self._cost = 0.0
        self._playing_since: float | None = None
        self._rendered = self._closed = False
        self._controls = Controls(client.gui, items, self)
        client.camera.on_update(lambda _: self._do(self._notice_movement))
        self.show(self._controls.item())
        self._thread = Thread(target=self._work, name="mvsplat viewer page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; what it has still to do for a page that is gone is dropped."""
        self._closed = True
        self._jobs.put(None)

    # What the controls ask for.

    def show(self, item: Item) -> None:
        self._do(lambda: self._show(item))

    def show_cameras(self) -> None:
        self._do(self._declutter)

    def go_to(self, camera: int) -> None:
        self._do(lambda: self._go_to(camera))

    def play(self, playing: bool) -> None:
        self._do(lambda: self._play(playing))

    def seek(self, share: float) -> None:
        self._do(lambda: self._seek(share))

    def redraw(self) -> None:
        self._do(self._draw)

    def save_picture(self) -> None:
        self._do(self._save_picture)

    # The thread.

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._until_next_tick())
            except Empty:
                job = self._tick
            if job is None or self._closed:
                return
            try:
                job()
            except Exception as error:
                if not self._closed:
                    self._notes.complain(error)

    def _until_next_tick(self) -> float:
        if self._playing_since is not None:
            return _FRAME
        return _LOOK if self._moved_at is None else _REST / 5

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK:
            self._looked_at = now
            self._follow()
        if self._playing_since is not None:
            self._advance(now)
        if self._moved_at is None:
            return
        if now - self._moved_at > _REST:
            self._draw()
        elif now - self._drawn_at > max(_PATIENCE, 10 * self._cost):
            self._send_splats()

    # Scenes.

    def _show(self, item: Item) -> None:
        with self._notes.busy(f"Reading {item.ply.name}", item.ply.stat().st_size > _LARGE):
            version = version_of(item)
            scene = self._load(item, version, None)
        before, previous = self._scene, self._item
        self._follower, self._cameras_shown = Follower(item, version), version[1:]
        self._notes.forget()
        self._play(False)
        self._item, self._scene = item, scene
        self._controls.describe(item, scene)
        # Not scene.set_up_direction: the page turns the world only after it has placed the camera.
        self._client.camera.up_direction = scene.up
        if before is not None and previous is not None and previous.scene == item.scene:
            pose, tangent = self._view()
            self._place(scene.to_page(before.to_world(pose)), tangent)
        else:
            self._go_to_start()
        self._replace_frusta(scene)
        self._draw()

    def _follow(self) -> None:
        """Show what has taken the place of the files shown, in the same frame of the page."""
        if self._follower is None or self._item is None or self._scene is None:
            return
        version = self._follower.look()
        if version is None:
            return
        self._notes.forget()
        try:
            scene = self._load(self._item, version, self._scene.frame)
        except (ValueError, OSError) as error:
            self._notes.say_for_now(
                f"{self._item.ply.name} has changed", f"What was there is still shown: {error}"
            )
            return
        self._scene = scene
        self._controls.describe(self._item, scene)
        if version[1:] != self._cameras_shown:
            self._replace_frusta(scene)
            self._cameras_shown = version[1:]
        self._draw()

    def _replace_frusta(self, scene: ViewedScene) -> None:
        self._frusta.remove()
        self._frusta = Frusta(self._client.scene, scene.frames, self.go_to)
        self._declutter()

    def _declutter(self) -> None:
        shown = self._controls.show_cameras.value and self._playing_since is None
        position = torch.as_tensor(self._client.camera.position).float()
        self._frusta.declutter(shown, position)

    # The camera.

    def _view(self) -> tuple[Float[Tensor, "4 4"], float]:
        """The page's camera, and half the height of its picture at distance 1."""
        camera = self._client.camera
        return pose_of(camera.wxyz, camera.position), float(np.tan(camera.fov / 2))

    def _place(self, pose: Float[Tensor, "4 4"], tangent: float) -> None:
        """Move the page's camera; it orbits around what is in the middle of the picture."""
        camera, position = self._client.camera, pose[:3, 3].double().numpy()
        with self._client.atomic():
            camera.position = position
            camera.wxyz = quaternion_of(pose)
            camera.look_at = position + DISTANCE * pose[:3, 2].double().numpy()
            camera.fov = 2 * float(np.arctan(tangent))
            if self._scene is not None:
                camera.near = 0.2 * self._scene.near
        self._notice_movement()

    def _notice_movement(self) -> None:
        if self._moved_at is None and self._splats is not None and not self._splats.visible:
            self._splats.visible = True
            self._clear_background()
        self._moved_at = time.monotonic()
        self._declutter()

    def _go_to_start(self) -> None:
        if self._scene is None:
            return
        if self._scene.frames:
            self._go_to(0)
        else:
            self._place(*self._scene.start())

    def _go_to(self, camera: int) -> None:
        if self._scene is None or camera >= len(self._scene.frames):
            return
        self._play(False)
        self._controls.set_camera(camera)
        frame = self._scene.frames[camera]
        self._place(frame.extrinsics, fitting_tangent(frame, self._client.camera.aspect))

    def _play(self, playing: bool) -> None:
        share = self._controls.position.value
        start = time.monotonic() - (0 if share >= 1 else share) * self._controls.seconds.value
        self._playing_since = start if playing else None
        self._controls.set_playing(playing)
        self._declutter()

    def _advance(self, now: float) -> None:
        if self._playing_since is None:
            return
        share = (now - self._playing_since) / self._controls.seconds.value
        self._seek(min(share, 1.0))
        self._controls.position.value = round(min(share, 1.0), 3)
        if share >= 1:
            self._play(False)

    def _seek(self, share: float) -> None:
        if self._scene is None:
            return
        path = self._scene.path
        number = round(share * (len(path) - 1))
        pose, lens = path.extrinsics[number], path.intrinsics[number]
        aspect = self._client.camera.aspect
        tangent = max(0.5 / float(lens[1, 1]), 0.5 / float(lens[0, 0]) / aspect)
        self._place(pose, tangent)

    # Pictures.

    def _draw(self) -> None:
        """Bring the page up to date with its camera and controls."""
        if self._scene is None:
            return
        self._moved_at = None
        self._send_splats()
        if self._controls.still.value == "splats" or self._playing_since is not None:
            self._clear_background()
            self._splats.visible = True
            return
        camera = self._client.camera
        picture = self._picture(camera.image_height, camera.image_width)
        self._client.scene.set_background_image(np.asarray(picture), format="png")
        self._splats.visible = False

    def _clear_background(self) -> None:
        """One pixel of the background's colour, which the page stretches behind the scene."""
        color = np.array([[self._controls.background.value]], dtype=np.uint8)
        self._client.scene.set_background_image(color, format="png")

    def _send_splats(self) -> None:
        """What the shader needs for this camera; viser sends nothing if nothing has changed."""
        if self._scene is None:
            return
        start = time.monotonic()
        pose, tangent = self._view()
        focal = self._client.camera.image_height / (2 * tangent)
        content = vars(buffers(self._adjusted(self._scene), pose, focal))
        if self._splats is None:
            self._splats = self._client.scene.add_gaussian_splats("/splats", **content)
        else:
            self._splats.set_gaussians(**content)
        self._drawn_at = time.monotonic()
        self._cost = self._drawn_at - start

    def _adjusted(self, scene: ViewedScene) -> Gaussians:
        controls = self._controls
        return scene.adjusted(controls.size.value, int(controls.degree.value), controls.fill.value)

    def _picture(self, height: int, width: int) -> Image.Image:
        if self._scene is None:
            raise ValueError("there is no scene to make a picture of")
        gaussians = self._adjusted(self._scene)
        with self._notes.busy("Preparing the renderer", not self._rendered):
            rendering = self._scene.render(gaussians, *self._view(), height, width)
        self._rendered = True
        if self._controls.still.value == "depth":
            return to_pil(color_depth(rendering.depth[0, 0]))
        background = torch.tensor(self._controls.background.value)[:, None, None] / 255
        return to_pil(rendering.color[0, 0] + (1 - rendering.alpha[0]) * background)

    def _save_picture(self) -> None:
        height = int(self._controls.height.value)
        picture = self._picture(height, max(1, round(height * self._client.camera.aspect)))
        file = io.BytesIO()
        picture.save(file, format="PNG")
        name = file_name(self._item.scene if self._item else "scene")
        self._client.send_file_download(f"{name}.png", file.getvalue(), save_immediately=True)
