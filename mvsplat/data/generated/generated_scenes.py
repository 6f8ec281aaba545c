"""Generated scenes, the embedded default: rooms that are drawn, filmed and written as chunks."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mvsplat.data.generated.recipe import FAR, NEAR, Recipe
from mvsplat.data.generated.written_scenes import WrittenScenes, check, digest
from mvsplat.data.scene import Split

if TYPE_CHECKING:
    import numpy as np

    from mvsplat.data.generated.shot import Shot

# Part of the folder's name: raise it whenever the same settings would give other pictures.
_VERSION = 4


class GeneratedScenes(WrittenScenes):
    """Procedural rooms with exact depth, written once by prepare_data and read like any chunks.

    Every set of settings has a folder of its own under root, named after its frame size, counts
    and a digest of all settings; what is complete there is used again. A scene depends on the
    settings and its number alone, so more scenes are the same ones and some more. Depths are
    between 1 and 10 metres, which are also the scenes' depth bounds.

    Args:
        root: Folder under which the data sets are written.
        train_scenes: Number of scenes to train on.
        test_scenes: Number of held-out scenes.
        frames: Number of frames a scene.
        image_shape: Height and width of the frames in pixels.
        travel: Length of the camera's way through a scene in metres; rooms are 7 to 9 metres long.
        field_of_view: Smallest and largest angle across a frame's longer side, in degrees.
        pitch: How far cameras look up or down at most, in degrees.
        roll: How far cameras are tilted sideways at most, in degrees.
        seed: Other seeds give other scenes.
        open_chunks: How many chunks each loader worker keeps open.

    Raises:
        ValueError: A setting makes no sense; names it.
    """

    made_beforehand = "`mvsplat scenes`"

    def __init__(
        self,
        root: str = "datasets/generated",
        train_scenes: int = 2000,
        test_scenes: int = 30,
        frames: int = 7,
        image_shape: tuple[int, int] = (64, 64),
        travel: float = 0.9,
        field_of_view: tuple[float, float] = (50.0, 65.0),
        pitch: float = 18.0,
        roll: float = 14.0,
        seed: int = 0,
        open_chunks: int = 8,
    ) -> None:
        height, width = image_shape
        narrow, wide = field_of_view
        check("train_scenes", train_scenes, 0, 10_000_000)
        check("test_scenes", test_scenes, 0, 10_000_000)
        check("frames", frames, 2, 100_000)
        check("image_shape's height", height, 16, 4096)
        check("image_shape's width", width, 16, 4096)
        check("travel", travel, 0.0, 3.0)
        check("field_of_view's smallest", narrow, 20.0, 90.0)
        check("field_of_view's largest", wide, narrow, 90.0)
        check("pitch", pitch, 0.0, 40.0)
        check("roll", roll, 0.0, 180.0)
        check("seed", seed, 0, 2**63 - 1)
        self.recipe = Recipe(
            frames, height, width, float(travel), (float(narrow), float(wide)),
            float(pitch), float(roll), seed,
        )  # fmt: skip
        settings = asdict(self.recipe)
        number = f"{train_scenes}train-{test_scenes}test"
        name = f"{width}x{height}-{frames}frames-{number}-{digest(_VERSION, settings)}"
        about = {
            "about": "procedural rooms of mvsplat's GeneratedScenes, RealEstate10K chunk layout",
            "generator": _VERSION,
            "near": NEAR,
            "far": FAR,
            "settings": settings,
        }
        counts: dict[Split, int] = {"train": train_scenes, "test": test_scenes}
        super().__init__(Path(root) / name, counts, seed, about, open_chunks)

    def drawing(self) -> "Callable[[np.random.Generator], Shot]":
        from mvsplat.data.generated.furnished_rooms import draw_shot

        return partial(draw_shot, recipe=self.recipe)
