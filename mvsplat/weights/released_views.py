"""What views released weights were trained with, by their file's name or else their tensors.

Names of DepthSplat's files tell the pictures' size and the number of views, as in
``depthsplat-gs-small-re10kdl3dv-448x768-randview4-10-c08188db.pth``. A file that was renamed has
sizes that one or several released files share: then the views are those of the smallest pictures
among them. Bounds are those of the published training and test commands.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_NAMED = re.compile(
    r"(?P<height>\d+)x(?P<width>\d+)-(?:rand)?view(?P<fewest>\d+)(?:-(?P<most>\d{1,2})(?!\w))?"
)
_NEAR = 0.5
_FAR, _FAR_OUTDOORS = 100.0, 200.0


class TrainedViews(NamedTuple):
    """The views of a training.

    Args:
        image_shape: Height and width; of the last stage, if there were several.
        context_views: Fewest and most context views.
        near: Their near bound, which tells the unit of the scenes.
        far: Their far bound.
    """

    image_shape: tuple[int, int]
    context_views: tuple[int, int]
    near: float
    far: float


def trained_views(name: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Height and width, fewest and most context views that a released file's name tells."""
    told = _NAMED.search(name)
    if told is None:
        return None
    height, width, fewest, most = (int(told[group] or 0) for group in _NAMED.groupindex)
    return (height, width), (fewest, most or fewest)


def mvsplat_views() -> TrainedViews:
    """Of MVSplat's released files, all alike."""
    return TrainedViews((256, 256), (2, 2), 1.0, 100.0)


def depthsplat_views(name: str, arguments: Mapping[str, Any], of_depth: bool) -> TrainedViews:
    """Of DepthSplat's.

    Args:
        name: The file's.
        arguments: Sizes of the model, as its tensors tell them.
        of_depth: It holds no weights for Gaussians.
    """
    low_resolution = arguments["lowest_feature_stride"] == 8
    told = trained_views(name)
    if told is None and of_depth:
        told = (352, 640), (2, 8)
    elif told is None and not low_resolution:
        told = (256, 256), (2, 2)
    elif told is None:
        told = ((448, 768), (4, 10)) if arguments["scales"] == 1 else ((256, 448), (2, 6))
    # Only those of more than two views saw DL3DV, whose scenes are outdoors, too.
    return TrainedViews(*told, _NEAR, _FAR_OUTDOORS if told[1][1] > 2 else _FAR)
