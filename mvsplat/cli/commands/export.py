"""``export``: splats from one format into another, put together, cut to size and turned."""

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo

from mvsplat.cli.errors import CommandParser
from mvsplat.evaluation.metrics import HIGHEST_PSNR
from mvsplat.evaluation.splat_comparison import rendered_psnr, viewpoints
from mvsplat.export.cameras import Cameras, cameras_of, load_cameras, save_cameras
from mvsplat.export.editing import (
    cropped,
    merged,
    middle,
    most_visible,
    passing,
    placed,
    placed_cameras,
    with_degree,
)
from mvsplat.export.placement import Axis, Placement
from mvsplat.export.splat_registry import located
from mvsplat.export.splats import check_options, load_splat, save_splat
from mvsplat.geometry.spherical_harmonics import degree_of
from mvsplat.reconstruction.stages import ShownStages, Stages
from mvsplat.types import Gaussians

Box = tuple[float, float, float, float, float, float]
_log = logging.getLogger("mvsplat.export")


@dataclass(frozen=True)
class Changes:
    """What is done to a scene on the way; the options of the command."""

    min_opacity: float = 0.0
    max_scale: float = math.inf
    sh_degree: int | None = None
    max_gaussians: int | None = None
    crop: Box | None = None
    up_axis: Axis | None = None
    recenter: bool = False

    @property
    def moves(self) -> bool:
        """Whether the scene is somewhere else afterwards."""
        return self.recenter or self.up_axis is not None


def main(argv: list[str]) -> None:
    """Read, change, write, and say what it costs."""
    arguments = _parser().parse_args(argv)
    *sources, target = (Path(path) for path in arguments.paths)
    if not sources:
        raise ValueError(f"only {target} is named: name the splats to read, then the file to write")
    names = Changes.__dataclass_fields__
    changes = Changes(**{name: getattr(arguments, name) for name in names})
    with ShownStages() as stages:
        lines = export(sources, target, changes, arguments.activated, stages, arguments.photos)
    print("\n".join(lines))


def export(
    sources: list[Path],
    target: Path,
    changes: Changes,
    activated: bool | None,
    stages: Stages,
    photos: bool = True,
) -> list[str]:
    """Write several splats as one file, with the cameras of the first that has some.

    Returns what there is to say of them.

    Raises:
        OSError, ValueError: A splat cannot be read, or the file not written.
    """
    options: dict[str, Any] = {} if photos else {"photos": False}
    format = check_options(target, options).format  # before minutes of reading
    sources = [located(path) for path in sources]
    cameras_file = next(filter(None, map(cameras_of, sources)), None)
    cameras_target = target.with_name(f"{target.stem.removesuffix('.compressed')}.cameras.json")
    if changes.moves and cameras_file and cameras_file.resolve() == cameras_target.resolve():
        raise ValueError(
            f"{target} would be moved, and its cameras with it, but {cameras_file} is also that of "
            f"{sources[0]}: choose another name or folder"
        )
    scenes, lines = [], []
    for path in sources:
        with stages.stage(f"Reading {path.name}"):
            scenes.append(load_splat(path, activated if path.suffix.lower() == ".ply" else None))
        lines.append(_line(path, scenes[-1]))
    scene = merged(scenes)
    del scenes
    if changes.crop is not None:
        scene = cropped(scene, changes.crop)
    smaller = _reduced(scene, changes)
    if not smaller.means.shape[1]:
        raise ValueError("no Gaussians are left by these options; nothing was written")
    placement = Placement(middle(smaller) if changes.recenter else None, changes.up_axis)
    cameras = None if cameras_file is None else _usable(cameras_file)
    if changes.moves:
        scene, smaller = placed(scene, placement), placed(smaller, placement)
        cameras = cameras and placed_cameras(cameras, placement)
        lines += placement.comments()
    title = f"Writing {target.name}"
    if format.takes("progress"):
        options["progress"] = partial(stages.update, title)
    with stages.stage(title):
        save_splat(smaller, target, cameras=cameras, **options)
    beside = cameras and not format.takes("cameras")
    if cameras and beside and (changes.moves or cameras_of(located(target)) != cameras_file):
        save_cameras(cameras, cameras_target)
    with stages.stage(f"Reading {target.name} again"):
        written = load_splat(target)
    return [*lines, f"{_line(target, written)}; {_loss(scene, written, cameras, stages)}"]


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="mvsplat export",
        description="Write splats in another format, which the suffix chooses: .ply, "
        ".compressed.ply, .splat, .spz, .sog, a folder's meta.json, .glb, .gltf; .ksplat is read "
        "only. An .html file is a page to send: it shows the scene, its cameras and photos in a "
        "browser, without a network. Several splats are merged. Says how large the file is, and "
        "how much its pictures differ from those of what was read (after --crop), from the cameras "
        "beside it or from an orbit.",
    )
    add = parser.add_argument
    add("paths", nargs="+", type=str, metavar="IN... OUT", help="splats to read, file to write")
    add("--min_opacity", type=float, default=0.0, help="leave out Gaussians that are less opaque")
    add(
        "--max_scale",
        type=float,
        default=math.inf,
        help="leave out Gaussians whose largest standard deviation is larger, in the scene's unit",
    )
    add("--sh_degree", type=int | None, default=None, help="keep harmonics up to this degree")
    add(
        "--max_gaussians",
        type=int | None,
        default=None,
        help="keep so many at most: those with the most opacity times area",
    )
    add(
        "--crop",
        type=Box | None,
        default=None,
        metavar="BOX",
        help="keep what is in a box: [x, y, z, X, Y, Z], its lowest corner, then its highest",
    )
    add(
        "--up_axis",
        type=Axis | None,
        default=None,
        help="turn the scene so that up, -y as photographs have it, points along this axis",
    )
    add(
        "--recenter",
        action=ActionYesNo(no_prefix="no-"),
        default=False,
        help="move the scene's middle to the origin",
    )
    add(
        "--photos",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="hold the photos of the cameras in .html files, reduced to 100 KB each",
    )
    add(
        "--activated",
        type=bool | None,
        default=None,
        help="whether PLY files store opacities and scales as they are, as some feed-forward "
        "programs do, and not as logits and logarithms; null finds out and says so",
    )
    return parser


def _reduced(scene: Gaussians, changes: Changes) -> Gaussians:
    scene = passing(scene, changes.min_opacity, changes.max_scale)
    if changes.sh_degree is not None:
        scene = with_degree(scene, changes.sh_degree)
    if changes.max_gaussians is not None:
        scene = most_visible(scene, changes.max_gaussians)
    return scene


def _usable(path: Path) -> Cameras | None:
    try:
        return load_cameras(path)
    except (ValueError, OSError) as error:
        _log.warning("cameras are left out: %s", error)
        return None


def _loss(scene: Gaussians, written: Gaussians, cameras: Cameras | None, stages: Stages) -> str:
    """How much pictures of what was written differ from those of what it was made of."""
    views = viewpoints(scene, cameras)
    values = []
    for number, view in enumerate(views):
        stages.update("Comparing pictures", number, len(views))
        values.append(rendered_psnr(scene, written, view))
    stages.end()
    loss = sum(values) / len(values)
    said = "no difference" if loss >= HIGHEST_PSNR else f"PSNR {loss:.1f} dB"
    where = "cameras beside it" if cameras else "places around it"
    return f"{said} from {len(views)} {where}"


def _line(path: Path, scene: Gaussians) -> str:
    count = scene.means.shape[1]
    inside = path.parent.iterdir() if path.name == "meta.json" else [path]
    size = sum(file.stat().st_size for file in inside if file.suffix in (path.suffix, ".webp"))
    return (
        f"{path}: {count:,} Gaussians of degree {degree_of(scene.harmonics.shape[-1])}, "
        f"{size / 1e6:.2f} MB ({size / max(count, 1):.1f} bytes a Gaussian)"
    )
