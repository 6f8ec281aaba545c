"""How well one scene shows photographs that it was not made from, before and after refinement.

As JSON, ``scores.json`` beside the scene::

    {"before": {"psnr": 18.4, "ssim": 0.61,
                "photos": {"IMG_3.jpg": {"psnr": 18.4, "ssim": 0.61, "width": 960, "height": 640}}},
     "after": {...}, "kept": true}

Means are over the photographs; ``after`` is null where the scene was not refined, both are null
where no photograph was left out, and ``kept`` says whether the refined scene is the one that was
written.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from mvsplat.evaluation.json_numbers import finite
from mvsplat.evaluation.metric_table import STANDARD
from mvsplat.evaluation.scoring import Result
from mvsplat.files import replacing

FILE_NAME = "scores.json"
METRICS = tuple(metric.name for metric in STANDARD if not metric.needs_depth)


class PhotoScores(NamedTuple):
    """One photograph's scores by the metric's name, and the size at which it was compared."""

    values: dict[str, float]
    width: int
    height: int


def save_photo_scores(
    before: dict[str, PhotoScores], after: dict[str, PhotoScores] | None, kept: bool, path: Path
) -> None:
    """Write the scores of photographs, by their names, of a scene before and after refinement.

    Args:
        before: Empty where no photograph was left out.
        after: None where the scene was not refined.
        kept: Whether what was refined is the scene that was written.
        path: The JSON file.
    """
    content = {"before": _summary(before), "after": _summary(after or {}), "kept": kept}
    with replacing(path) as temporary:
        text = json.dumps(finite(content), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _summary(photos: dict[str, PhotoScores]) -> dict[str, Any] | None:
    if not photos:
        return None
    means = {name: fmean(of.values[name] for of in photos.values()) for name in METRICS}
    listed = {
        name: {**of.values, "width": of.width, "height": of.height} for name, of in photos.items()
    }
    return {**means, "photos": listed}


def is_photo_scores(content: Any) -> bool:
    """Whether the content of a JSON file is one scene's scores, and not a test's results."""
    return isinstance(content, dict) and {"before", "after", "kept"} <= content.keys()


def results_of(content: dict[str, Any], file: Path) -> list[Result]:
    """One scene's scores as results of a test in which every photograph is a scene of its own.

    The methods are "model", the scene as it was written, and "prediction", what it was before.

    Raises:
        ValueError: No photograph was left out, so that there are no scores.
        KeyError, TypeError, AttributeError: The content is damaged.
    """
    before, after = content["before"], content["after"]
    if before is None:
        raise ValueError(
            f"{file} has no scores: the scene was made from all photos, with none held out to be "
            "compared with (--held_out of mvsplat reconstruct)"
        )
    written = after if after is not None and content["kept"] else before
    return [_result(name, of, before["photos"][name]) for name, of in written["photos"].items()]


def _result(name: str, written: dict[str, Any], before: dict[str, Any]) -> Result:
    scores = {}
    for method, of_photo in (("model", written), ("prediction", before)):
        values = {metric: of_photo[metric] for metric in METRICS}
        scores[method] = {"mean": values, "views": [{"frame": 0, **values}]}
    size = [int(written["width"]), int(written["height"])]
    return {"scene": name, "context": [], "target": [0], "size": size, "scores": scores}
