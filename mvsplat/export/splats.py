"""Splat files of any format, chosen by the file's suffix."""

import inspect
import math
from pathlib import Path
from typing import Any

from mvsplat.export.cameras import Cameras
from mvsplat.export.soundness import finite, one_scene, subset, without_broken
from mvsplat.export.splat_registry import NamedFormat, located, reading, writing
from mvsplat.files import replacing
from mvsplat.types import Gaussians


def save_splat(
    gaussians: Gaussians,
    path: str | Path,
    scene: int | None = None,
    min_opacity: float = 0.0,
    max_scale: float = math.inf,
    cameras: Cameras | None = None,
    **options: Any,
) -> None:
    """Write one scene's Gaussians in the format of the file's suffix.

    An existing file is replaced once all is written.

    Args:
        gaussians: A batch of scenes.
        path: The file to write; its suffix chooses the format: ``.ply``, ``.compressed.ply``,
            ``.splat``, ``.spz``, ``.sog`` (or a folder's ``meta.json``), ``.glb``, ``.gltf``,
            ``.html`` (a page that shows the scene), or one that another package brings. Folders are
            created.
        scene: Which scene of the batch; may be left out if there is only one.
        min_opacity: Leave out Gaussians that are less opaque.
        max_scale: Leave out Gaussians whose largest standard deviation is larger, in the scene's
            unit.
        cameras: Of the scene, for formats that hold them (``.html``); others leave them out.
        options: Of the format; for ``.ply`` those of :func:`mvsplat.export.save_ply`.

    Raises:
        OSError: It cannot be written.
        ValueError: No format has this suffix, it takes no such option, the scene is not in the
            batch, a value is not finite, or the format cannot hold the Gaussians.
    """
    named = check_options(path, options)
    offered = {"cameras": cameras, "title": Path(path).stem}
    options = {k: v for k, v in offered.items() if named.format.takes(k)} | options
    chosen = one_scene(gaussians, scene)
    bad = (~finite(chosen)).nonzero()
    if len(bad):
        raise ValueError(
            f"Gaussian {int(bad[0])} has values that are not finite; nothing was written"
        )
    kept = (chosen.opacities[0] >= min_opacity) & (chosen.scales[0].amax(-1) <= max_scale)
    if not kept.all():
        chosen = subset(chosen, kept)
    try:
        with replacing(path) as temporary:
            _write(named, chosen, Path(path), temporary, options)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def check_options(path: str | Path, options: dict[str, Any]) -> NamedFormat:
    """The format in which a file of this name is written, if it takes these options.

    Raises:
        ValueError: There is none of this suffix, or it takes no such option; lists what there is.
    """
    named = writing(path)
    parameters = inspect.signature(named.format.write).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return named
    known = [name for name in parameters if name not in ("gaussians", "path")]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(
            f"{named.suffix} files take no option {unknown[0]!r}; they take scene, min_opacity, "
            f"max_scale{''.join(f', {name}' for name in known)}"
        )
    return named


def load_splat(path: str | Path, activated: bool | None = None) -> Gaussians:
    """Read a splat file in the format of its suffix, as a batch of one scene.

    Gaussians with values that are not finite are left out and counted in a warning.

    Args:
        path: The file, or the folder of a SOG scene.
        activated: For ``.ply``: whether opacities and scales are stored as they are, not as logits
            and logarithms; see :func:`mvsplat.export.load_ply`. Other formats leave no choice.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        ValueError: It is of no format that is read, which is named where it is known, or damaged.
    """
    path = located(path)
    named = reading(path)
    options = {} if activated is None else {"activated": activated}
    if options and "activated" not in inspect.signature(named.format.read).parameters:
        raise ValueError(
            f"{path}: activated={activated} is for .ply files; what {named.suffix} files store is "
            "fixed by their format"
        )
    try:
        gaussians = named.format.read(path, **options)
        if not isinstance(gaussians, Gaussians) or len(gaussians.means) != 1:
            raise TypeError("it must return mvsplat.Gaussians, a batch of one scene")
    except OSError:
        raise
    except Exception as error:  # a format of a user's can raise anything
        if isinstance(error, ValueError) and named.origin == "mvsplat":
            raise
        raise ValueError(f"{path} cannot be read as {_told(named, error)}") from error
    return without_broken(gaussians, path)


def check_splat(path: str | Path) -> None:
    """Look whether :func:`load_splat` can read a file, without reading all of it.

    Raises:
        OSError, ValueError: It cannot.
    """
    path = located(path)
    named = reading(path)
    try:
        named.format.check(path)
    except OSError:
        raise
    except Exception as error:  # a format of a user's can raise anything
        if isinstance(error, ValueError) and named.origin == "mvsplat":
            raise
        raise ValueError(f"{path} cannot be read as {_told(named, error)}") from error


def _write(
    named: NamedFormat, gaussians: Gaussians, path: Path, temporary: Path, options: dict[str, Any]
) -> None:
    """Write to a temporary file; messages name the path that it is to have."""
    try:
        named.format.write(gaussians, temporary, **options)
    except OSError:
        raise
    except Exception as error:  # a format of a user's can raise anything
        raise ValueError(f"{path} cannot be written as {_told(named, error)}") from error
    if not temporary.is_file():
        raise ValueError(
            f"{path} cannot be written as {named.suffix} ({named.origin}): its write made no "
            "file at the path that it was given"
        )


def _told(named: NamedFormat, error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{named.suffix} ({named.origin}): {kind}{error}"
