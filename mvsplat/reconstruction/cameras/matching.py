"""What pycolmap's processes share: features, their matches, and how they tell how far they are."""

import json
from pathlib import Path
from typing import Any

import pycolmap

_PAIRS_AT_A_TIME = 24


def extraction_options(task: dict[str, Any]) -> pycolmap.FeatureExtractionOptions:
    """How many threads look for how many features."""
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = task["threads"]
    options.sift.max_num_features = task["features"]
    return options


def match_pairs(
    task: dict[str, Any], pairs: list[tuple[int, int]], folder: Path, database: Path
) -> None:
    """Features of pairs of photographs, and which of the matches a rigid scene explains."""
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = task["threads"]
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = task["seed"]
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = folder / "pairs.txt"
    done = 0
    for part in parts(pairs, _PAIRS_AT_A_TIME):
        lines = [f"{task['order'][i]} {task['order'][j]}" for i, j in part]
        (folder / "pairs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        pycolmap.match_image_pairs(database, matching, pairing, geometry, pycolmap.Device.cpu)
        done += len(part)
        tell(stage="matches", done=done, total=len(pairs))


def parts(items: list, size: int) -> list[list]:
    """The items, ``size`` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def tell(**message: Any) -> None:
    """A line for :func:`~mvsplat.reconstruction.cameras.worker.run_worker`."""
    print(json.dumps(message), flush=True)
