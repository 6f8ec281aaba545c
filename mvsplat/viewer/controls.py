"""The panel of a page: its controls, and which action of the session each one calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from mvsplat.viewer.library import Item
from mvsplat.viewer.scene import ViewedScene

STILLS = ("splats", "rendering", "depth")
"""What a page shows while its camera rests."""


class Actions(ABC):
    """What the controls can ask for, from any thread."""

    @abstractmethod
    def show(self, item: Item) -> None:
        """Show another item; the camera stays if it is another result of the same scene."""

    @abstractmethod
    def show_cameras(self) -> None:
        """Show or hide the cameras' frusta, as the control for it says."""

    @abstractmethod
    def go_to(self, camera: int) -> None:
        """Take the position of one of the scene's cameras."""

    @abstractmethod
    def play(self, playing: bool) -> None:
        """Move along the camera path, or stop."""

    @abstractmethod
    def seek(self, share: float) -> None:
        """Take a position on the camera path, from 0 (its beginning) to 1 (its end)."""

    @abstractmethod
    def redraw(self) -> None:
        """Draw again: a control that changes the picture was changed."""

    @abstractmethod
    def save_picture(self) -> None:
        """Send the page an exact rendering of what it shows, as a PNG file to save."""


class Controls:
    """The widgets of one page.

    Args:
        gui: viser's interface of that page.
        items: All there is to look at.
        actions: Whom to call; calls come from viser's threads.
    """

    def __init__(self, gui: Any, items: list[Item], actions: Actions):
        self._gui, self._items, self._actions = gui, items, actions
        results = list(dict.fromkeys(item.result for item in items))
        self.result = gui.add_dropdown("Result", results, visible=len(results) > 1)
        self.scene = gui.add_dropdown("Scene", self._scenes(results[0]))
        self._facts = gui.add_markdown("")
        self._add_cameras()
        self._add_path()
        self._add_picture()
        self._add_appearance()
        self._sheets = gui.add_folder("Test picture", expand_by_default=False, visible=False)
        self._sheet: Any = None
        self._on_user(self.result, self._choose_result)
        self._on_user(self.scene, lambda: actions.show(self.item()))

    def _add_cameras(self) -> None:
        with self._gui.add_folder("Cameras") as self._cameras:
            self.show_cameras = self._gui.add_checkbox("Show cameras", True)
            self.camera = self._gui.add_dropdown("Camera", ("-",))
            steps = self._gui.add_button_group("Go to", ("Previous", "This", "Next"))
        self._on_user(self.show_cameras, self._actions.show_cameras)
        self._on_user(self.camera, lambda: self._step(0))
        offsets = {"Previous": -1, "This": 0, "Next": 1}
        steps.on_click(lambda event: self._step(offsets[event.target.value]))

    def _add_path(self) -> None:
        with self._gui.add_folder("Camera path"):
            self.play = self._gui.add_button("Play", icon="player-play")
            self.position = self._gui.add_slider("Position", 0.0, 1.0, 0.001, 0.0)
            self.seconds = self._gui.add_slider("Seconds", 1.0, 60.0, 1.0, 6.0)
        self.play.on_click(lambda _: self._actions.play(self.play.label == "Play"))
        self._on_user(self.position, lambda: self._actions.seek(self.position.value))

    def _add_picture(self) -> None:
        with self._gui.add_folder("Picture"):
            self.still = self._gui.add_dropdown(
                "When still",
                STILLS,
                hint="While the camera rests: the browser's splats, this package's exact "
                "rendering, or its depth",
            )
            self.height = self._gui.add_slider("Height", 240, 2160, 60, 1080)
            self.save = self._gui.add_button("Save picture", icon="photo-down")
        self._on_user(self.still, self._actions.redraw)
        self.save.on_click(lambda _: self._actions.save_picture())

    def _add_appearance(self) -> None:
        with self._gui.add_folder("Appearance", expand_by_default=False):
            self.size = self._gui.add_slider("Splat size", 0.1, 3.0, 0.05, 1.0)
            self.degree = self._gui.add_slider(
                "Harmonics", 0, 4, 1, 4, hint="Highest degree of view-dependent colour shown"
            )
            self.background = self._gui.add_rgb("Background", (0, 0, 0))
            self.fill = self._gui.add_checkbox(
                "Fill gaps",
                True,
                hint="Add the dilation that splats have at the photographs' resolution; without, "
                "close-ups of small models show holes",
            )
        for control in (self.size, self.degree, self.background, self.fill):
            self._on_user(control, self._actions.redraw)

    def item(self) -> Item:
        """The chosen item."""
        chosen = (self.result.value, self.scene.value)
        return next(item for item in self._items if (item.result, item.scene) == chosen)

    def describe(self, item: Item, scene: ViewedScene) -> None:
        """Say what is shown, list its cameras, show its test picture."""
        count = scene.gaussians.means.shape[1]
        coefficients = scene.gaussians.harmonics.shape[-1]
        scores = " · ".join(f"{name} {value:.4g}" for name, value in item.scores.items())
        self._facts.content = "\n\n".join(
            line
            for line in (
                f"{count:,} Gaussians, harmonics of degree {round(coefficients**0.5) - 1}",
                f"`{item.ply}`",
                scores,
            )
            if line
        )
        names = [f"{i + 1}: {frame.name}" for i, frame in enumerate(scene.frames)]
        self.camera.options = names or ("-",)
        self._cameras.visible = bool(names)
        self.fill.disabled = scene.dilated
        if self._sheet is not None:
            self._sheet.remove()
            self._sheet = None
        self._sheets.visible = item.sheet is not None
        if item.sheet is not None:
            with self._sheets:
                self._sheet = self._gui.add_image(
                    np.asarray(Image.open(item.sheet).convert("RGB")), format="png"
                )

    def set_camera(self, number: int) -> None:
        """Let the list name the camera that the page is at."""
        self.camera.value = self.camera.options[number]

    def set_playing(self, playing: bool) -> None:
        """Let the button say what it will do next."""
        self.play.label = "Pause" if playing else "Play"
        self.play.icon = "player-pause" if playing else "player-play"

    def _scenes(self, result: str) -> list[str]:
        return [item.scene for item in self._items if item.result == result]

    def _choose_result(self) -> None:
        """Other scenes to choose from; stay at the scene if the other result has it, too."""
        scene, scenes = self.scene.value, self._scenes(self.result.value)
        self.scene.options = scenes
        self.scene.value = scene if scene in scenes else scenes[0]
        self._actions.show(self.item())

    def _step(self, offset: int) -> None:
        options = list(self.camera.options)
        self._actions.go_to((options.index(self.camera.value) + offset) % len(options))

    @staticmethod
    def _on_user(control: Any, action: Callable[[], None]) -> None:
        """Call when the user changes a control, not when the program does."""
        control.on_update(lambda event: action() if event.client is not None else None)
