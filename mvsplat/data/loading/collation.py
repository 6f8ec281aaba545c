"""One batch of the samples of several scenes."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

from mvsplat.types import Batch, Views


def collate(samples: Sequence[Batch]) -> Batch:
    """One batch of several; scenes without depth get 0 (unknown) where others have it.

    Raises:
        ValueError: Their numbers of views or picture sizes differ.
    """
    return Batch(
        _join([sample.context for sample in samples], "context", samples),
        _join([sample.target for sample in samples], "target", samples),
        [key for sample in samples for key in sample.scene],
    )


def _join(parts: list[Views], kind: str, samples: Sequence[Batch]) -> Views:
    shapes = {tuple(views.image.shape[1:]) for views in parts}
    if len(shapes) > 1:
        found = ", ".join(
            f"{sample.scene[0]!r} {views.image.shape[1]} of {tuple(views.image.shape[-2:])}"
            for sample, views in zip(samples, parts, strict=True)
        )
        raise ValueError(
            f"scenes with different numbers or sizes of {kind} views cannot share a batch "
            f"({found}); set this stage's batch_size to 1"
        )
    joined: dict[str, Any] = {}
    for field in fields(Views):
        values = [getattr(views, field.name) for views in parts]
        if field.name == "depth" and any(value is not None for value in values):
            values = [
                torch.zeros_like(views.image[:, :, 0]) if value is None else value
                for views, value in zip(parts, values, strict=True)
            ]
        joined[field.name] = None if any(value is None for value in values) else torch.cat(values)
    return Views(**joined)
