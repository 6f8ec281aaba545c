"""Generated scenes of many kinds, which teach what photographs need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mvsplat.data.generated.recipe import KINDS, Variety
from mvsplat.data.generated.written_scenes import WrittenScenes, check, digest
from mvsplat.data.scene import Split

if TYPE_CHECKING:
    import numpy as np

    from mvsplat.data.generated.shot import Shot

# Part of the folder's name: raise it whenever the same settings would give other pictures.
_VERSION = 2


class VariedScenes(WrittenScenes):
    """Procedural scenes of many kinds with exact depth, written once and read like any chunks.

    Outdoor places with far backgrounds, fronts of buildings, things on a table, corridors, heaps of
    bodies, furnished rooms; filmed sideways, forward, on an arc, or from single places, with
    cameras of many angles whose principal points are off the centre. Textures have edges and detail
    of all sizes, as photographs do; some surfaces are plain or shiny, some things are thin. Each
    scene states depth bounds of its own, from its nearest thing to its farthest (not the sky).
    A scene depends on the settings and its number alone.

    Args:
        root: Folder under which the data sets are written.
        train_scenes: Number of scenes to train on.
        test_scenes: Number of held-out scenes.
        frames: Number of frames a scene.
        image_shapes: Heights and widths of the frames; each scene has one of them.
        kinds: How often each kind is drawn, relative to the others: outdoors, facade, tabletop,
            corridor, heap, room; null draws all alike.
        field_of_view: Smallest and largest angle across a frame's longer side, in degrees (of
            rooms, 35 to 75 at most).
        seed: Other seeds give other scenes.
        open_chunks: How many chunks each loader worker keeps open.

    Raises:
        ValueError: A setting makes no sense; names it.
    """

    made_beforehand = "`mvsplat scenes varied`"

    def __init__(
        self,
        root: str = "datasets/generated",
        train_scenes: int = 2000,
        test_scenes: int = 30,
        frames: int = 5,
        image_shapes: Sequence[tuple[int, int]] = ((224, 224), (192, 256), (256, 192)),
        kinds: Mapping[str, float] | None = None,
        field_of_view: tuple[float, float] = (30.0, 95.0),
        seed: int = 0,
        open_chunks: int = 8,
    ) -> None:
        narrow, wide = field_of_view
        check("train_scenes", train_scenes, 0, 10_000_000)
        check("test_scenes", test_scenes, 0, 10_000_000)
        check("frames", frames, 2, 100_000)
        check("the number of image_shapes", len(image_shapes), 1, 1000)
        for height, width in image_shapes:
            check("a height in image_shapes", height, 16, 4096)
            check("a width in image_shapes", width, 16, 4096)
        check("field_of_view's smallest", narrow, 20.0, 110.0)
        check("field_of_view's largest", wide, narrow, 110.0)
        check("seed", seed, 0, 2**63 - 1)
        shapes = tuple((height, width) for height, width in image_shapes)
        self.variety = Variety(_weights(kinds), frames, shapes, (float(narrow), float(wide)), seed)
        settings = asdict(self.variety)
        name = f"varied-{frames}frames-{train_scenes}train-{test_scenes}test"
        about = {
            "about": "procedural scenes of mvsplat's VariedScenes, RealEstate10K chunk layout",
            "generator": _VERSION,
            "settings": settings,
        }
        counts: dict[Split, int] = {"train": train_scenes, "test": test_scenes}
        folder = Path(root) / f"{name}-{digest(_VERSION, settings)}"
        super().__init__(folder, counts, seed, about, open_chunks)

    def drawing(self) -> "Callable[[np.random.Generator], Shot]":
        from mvsplat.data.generated.varied_shots import draw_varied

        return partial(draw_varied, variety=self.variety)


def _weights(kinds: Mapping[str, float] | None) -> dict[str, float]:
    weights = dict.fromkeys(KINDS, 1.0) if kinds is None else dict(kinds)
    for name, weight in weights.items():
        if name not in KINDS:
            raise ValueError(f"kinds has {name!r}; the kinds of scenes are {', '.join(KINDS)}")
        check(f"the weight of {name} in kinds", weight, 0.0, 1e9)
    if not sum(weights.values()):
        raise ValueError("kinds draws no kind of scene: give at least one a weight above 0")
    return {name: float(weights[name]) for name in KINDS if weights.get(name)}
