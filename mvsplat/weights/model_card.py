"""The page that goes with published weights: what they are, how good, how to use them."""

from collections.abc import Mapping
from typing import Any

import yaml

from mvsplat.weights.hub import MODEL_FILE, SCHEME, HubFile

_TAGS = ["gaussian-splatting", "novel-view-synthesis", "3d-reconstruction"]


def model_card(about: Mapping[str, Any], target: HubFile, licence: str | None = None) -> str:
    """The README of a repository of weights, in Markdown.

    Args:
        about: As in ``pack``; ``scores`` are means by method and metric.
        target: Where the weights will be.
        licence: Of the weights, by the Hub's name for it, such as ``mit``.
    """
    facts = {"library_name": "mvsplat", "pipeline_tag": "image-to-3d", "tags": _TAGS}
    if licence:
        facts["license"] = licence
    address = f"{SCHEME}{target.repository}"
    if target.file != MODEL_FILE:
        address += f"/{target.file}"
    good_for = about.get("good_for")
    told = [f"* {name}: {value}" for name, value in about.items() if name not in _ELSEWHERE]
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(facts, sort_keys=False)}---",
            f"# {target.repository.partition('/')[2]}",
            "",
            "Photographs with cameras go in, 3-D Gaussians come out of one forward pass: weights",
            f"of mvsplat{': ' + good_for if good_for else ''}.",
            "",
            *told,
            "",
            *_table(about.get("scores") or {}, about.get("test_scenes")),
            "## Use",
            "",
            "```bash",
            f"mvsplat reconstruct PHOTOS --checkpoint {address} --output scene",
            f"mvsplat fit --config CONFIG --model.weights {address}",
            "```",
            "",
            "```python",
            f'model = mvsplat.load_model("{address}")',
            "```",
            "",
        ]
    )


_ELSEWHERE = ("good_for", "scores", "test_scenes")


def _table(scores: Mapping[str, Mapping[str, float | None]], scenes: int | None) -> list[str]:
    if not scores:
        return []
    metrics = list(dict.fromkeys(name for of_method in scores.values() for name in of_method))
    lines = [
        f"| mean of {scenes} test scenes | {' | '.join(metrics)} |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for method, found in scores.items():
        numbers = [found.get(name) for name in metrics]
        cells = ["" if number is None else f"{number:.4g}" for number in numbers]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, ""]
