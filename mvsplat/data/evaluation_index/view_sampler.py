"""The view sampler of an evaluation index: its views, and what became of its entries."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.data.evaluation_index.index_file import (
    IndexEntry,
    odd_views,
    read_usable_entries,
    scene_of,
)
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.view_samplers import SampleChoice, ViewSampler
from mvsplat.data.scene import Scene
from mvsplat.data.wording import frames


class EvaluationViewSampler(ViewSampler):
    """The views that an evaluation index lists for each scene.

    The index is a JSON object from scene key to {"context": [frames], "target": [frames]}, or to
    null for a scene that is left out. Scenes that are not in it are left out, too. With names like
    scan1_00, scan1_01 there are several runs of the scene scan1, each with its own views. The
    number of context views may differ from entry to entry if batches are of one scene. Indices for
    your data are made by the command ``mvsplat index``; the format is described in
    mvsplat.data.evaluation_index.index_file.

    Args:
        index_path: The index file.
    """

    def __init__(self, index_path: str) -> None:
        self.index_path = index_path
        self._read: tuple[dict[str, IndexEntry | None], dict[str, str]] | None = None

    @property
    def index(self) -> Mapping[str, IndexEntry | None]:
        """The file's entries, read on first use, without those that cannot be read.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no evaluation index, or has bad entries only; names the first one.
        """
        return self._content()[0]

    def _content(self) -> tuple[dict[str, IndexEntry | None], dict[str, str]]:
        if self._read is None:
            self._read = read_usable_entries(self.index_path)
        return self._read

    def choose(self, keys: Sequence[str]) -> SampleChoice:
        known = dict.fromkeys(keys)
        entries, problems = self._content()
        scenes = {name: scene_of(name, entry, known) for name, entry in entries.items()}
        chosen = {
            name: scene
            for name, scene in scenes.items()
            if scene is not None and entries[name] is not None
        }
        named = {*scenes.values(), *(scene_of(name, None, known) for name in problems)}
        nulls = [name for name, entry in entries.items() if entry is None]
        left_out = {
            "not in the evaluation index": [key for key in known if key not in named],
            "null in the evaluation index": nulls,
        }
        absent = {n: "" for n, entry in entries.items() if entry is not None and n not in chosen}
        unusable = {
            "in the evaluation index, but not in the data": absent,
            "bad entry in the evaluation index": {
                name: f"{self.index_path}: {problem}" for name, problem in problems.items()
            },
        }
        return SampleChoice(
            chosen,
            {reason: names for reason, names in left_out.items() if names},
            {reason: names for reason, names in unusable.items() if names},
            [f"{self.index_path}: {remark}" for remark in odd_views(entries, chosen)],
        )

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        if scene.key not in self.index:
            raise UnsuitableScene("not in the evaluation index")
        entry = self.index[scene.key]
        if entry is None:
            raise UnsuitableScene("null in the evaluation index")
        beyond = [f for f in (*entry.context, *entry.target) if f >= len(scene)]
        if beyond:
            problem = ValueError(
                f"{self.index_path} names {frames(beyond)} of {scene.key!r}, which has "
                f"{len(scene)} frames (0 to {len(scene) - 1})"
            )
            raise UnsuitableScene("has fewer frames than the evaluation index names") from problem
        return torch.tensor(entry.context), torch.tensor(list(dict.fromkeys(entry.target)))

    def notes(self, name: str) -> dict[str, float | str]:
        entry = self.index.get(name)
        return {} if entry is None else entry.notes()
