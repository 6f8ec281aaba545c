"""Making an evaluation index: every scene's runs, chosen in parallel."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader, Dataset

from mvsplat.data.evaluation_index.context_choice import ContextChoice, EvaluationRun
from mvsplat.data.evaluation_index.index_file import IndexEntry
from mvsplat.data.evaluation_index.scene_overlap import (
    OverlapSettings,
    SceneOverlap,
    measure_overlap,
)
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.streams import make_generator
from mvsplat.data.scene import Scene, SceneSource, Split
from mvsplat.geometry.view_choice import NO_ANGLE
from mvsplat.machine import usable_cores

_SCENES_AT_A_TIME = 8


@dataclass
class IndexReport:
    """An index, and what became of the scenes.

    Args:
        entries: The index.
        left_out: Number of scenes without an entry, by reason.
        details: What exactly is wrong with scenes that cannot be read.
    """

    entries: dict[str, IndexEntry | None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _SceneRuns:
    """A scene's runs with their overlap, or the reason why it has none."""

    key: str
    runs: list[tuple[EvaluationRun, float]] = field(default_factory=list)
    reason: str = ""
    detail: str = ""


def make_index(
    source: SceneSource,
    split: Split,
    choice: ContextChoice,
    settings: OverlapSettings = OverlapSettings(),
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> IndexReport:
    """The evaluation index of a split's scenes, in the source's order.

    A scene's runs depend on the seed, the scene and the choice, not on other scenes or workers.

    Args:
        source: Where the scenes come from.
        split: Which of its scenes.
        choice: How views are chosen.
        settings: How overlap is measured.
        seed: Another seed gives other stretches and targets.
        workers: Processes that look at scenes, at most one a core; null: one a core, 0: this one.
        progress: Told how many more scenes are done.

    Raises:
        ValueError: Two entries get the same name.
    """
    chooser = _RunsOfScenes(source, split, choice, settings, seed)
    cores = usable_cores()
    count = min(cores if workers is None else workers, cores, len(chooser))
    loader = DataLoader(chooser, batch_size=None, num_workers=count)
    of_scene: dict[str, _SceneRuns] = {}
    for part in loader:
        of_scene |= {chosen.key: chosen for chosen in part}
        progress(len(part))
    report = IndexReport()
    for key in source.keys(split):
        _add(report, of_scene[key], choice.has_several_runs)
    return report


def choose_runs(
    scene: Scene, seen: SceneOverlap, choice: ContextChoice, seed: int = 0
) -> list[tuple[EvaluationRun, float]]:
    """A scene's runs, each with the overlap of its context views.

    Raises:
        UnsuitableScene: It has none; the message is the reason.
    """
    if len(seen) > 1 and bool((seen.pairs.angle.nan_to_num(180.0) < NO_ANGLE).all()):
        raise UnsuitableScene("no parallax: the camera stays in one place")
    # Not hash(), which is another number in every process.
    generator = make_generator(seed, zlib.crc32(scene.key.encode("utf-8", "replace")))
    runs = choice.runs(seen, generator)
    return [(run, float(seen.overlap(torch.tensor(run.context)))) for run in runs]


class _RunsOfScenes(Dataset):
    """Some scenes an item, those of an item from the same file; made in worker processes."""

    def __init__(
        self,
        source: SceneSource,
        split: Split,
        choice: ContextChoice,
        settings: OverlapSettings,
        seed: int,
    ) -> None:
        self.source, self.split, self.choice = source, split, choice
        self.settings, self.seed = settings, seed
        self.parts = [part for group in source.groups(split) for part in _parts(group)]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> list[_SceneRuns]:
        return [self._choose(key) for key in self.parts[index]]

    def _choose(self, key: str) -> _SceneRuns:
        try:
            scene = self.source.scene(self.split, key)
            runs = choose_runs(scene, measure_overlap(scene, self.settings), self.choice, self.seed)
            return _SceneRuns(key, runs)
        except UnsuitableScene as error:
            return _SceneRuns(key, reason=str(error), detail=_detail(key, error))
        except (ValueError, OSError) as error:
            return _SceneRuns(key, reason="damaged", detail=str(error))


def _detail(key: str, error: Exception) -> str:
    return f"{key}: {error.__cause__}" if error.__cause__ else ""


def _parts(group: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(group), _SCENES_AT_A_TIME):
        yield group[start : start + _SCENES_AT_A_TIME]


def _add(report: IndexReport, chosen: _SceneRuns, numbered: bool) -> None:
    if not chosen.runs:
        report.left_out[chosen.reason] += 1
        if chosen.detail:
            report.details.append(chosen.detail)
    named: dict[str, IndexEntry | None] = {} if chosen.runs else {chosen.key: None}
    for number, (run, overlap) in enumerate(chosen.runs):
        name = f"{chosen.key}_{number:02d}" if numbered else chosen.key
        scene = chosen.key if numbered else None
        target, rounded = tuple(run.target), round(overlap, 4)
        named[name] = IndexEntry(tuple(run.context), target, scene, rounded, run.tier)
    for name, entry in named.items():
        if name in report.entries:
            raise ValueError(f"two entries would be called {name!r}; rename that scene")
        report.entries[name] = entry
