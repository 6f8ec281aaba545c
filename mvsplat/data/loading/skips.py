"""Scenes that are skipped: counted by reason, and told of."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_info

from mvsplat.data.loading.view_samplers import SampleChoice
from mvsplat.data.wording import few

_log = logging.getLogger("mvsplat.data")

_SHOWN_DETAILS = 5
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class SkippedScene:
    """A scene that was left out: why, which, and what exactly is wrong with it, where known."""

    reason: str
    name: str
    detail: str = ""


class SkipReport:
    """Counts skipped scenes by reason, and says so: some in detail, all in summaries with names.

    Args:
        stage: What to call the stage in messages.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.counts: Counter[str] = Counter()
        self.skipped: dict[tuple[str, str], SkippedScene] = {}
        self._details = 0
        self._next_summary = 100

    def add_choice(self, choice: SampleChoice, is_first_process: bool) -> None:
        """Say what the view sampler leaves out, and count what it should not have to."""
        self.counts.update({reason: len(names) for reason, names in choice.left_out.items()})
        if not is_first_process:
            return
        if choice.left_out:
            found = [f"{len(names)} {r} ({few(names)})" for r, names in choice.left_out.items()]
            rank_zero_info(f"{self.stage}: left out {', '.join(found)}")
        for remark in choice.remarks:
            _log.warning("%s: %s", self.stage, remark)
        for reason, scenes in choice.unusable.items():
            self.add(SkippedScene(reason, name, detail) for name, detail in scenes.items())

    def add(self, skipped: Iterable[SkippedScene]) -> None:
        for skip in skipped:
            if skip.detail and self._details < _SHOWN_DETAILS:
                self._details += 1
                what = (skip.name, skip.reason, skip.detail)
                _log.warning("%s: skipped %s: %s: %s", self.stage, *what)
            elif skip.reason not in self.counts:
                _log.warning("%s: skipped %s: %s", self.stage, skip.name, skip.reason)
            self.counts[skip.reason] += 1
            self.skipped.setdefault((skip.reason, skip.name), skip)
        if self.counts.total() >= self._next_summary:
            self.summarize()
            self._next_summary *= 10

    def summarize(self) -> None:
        """Say how many scenes have been skipped so far, by reason, and name some."""
        if self.counts:
            found = describe_skips(self.counts, self.skipped.values())
            _log.warning("%s: skipped so far: %s", self.stage, found)


def no_usable_scenes(skipped: Sequence[SkippedScene]) -> str:
    """The message that no scene can be used: the reasons, some names, an example of each."""
    counts = Counter(skip.reason for skip in skipped)
    first = {skip.reason: skip for skip in reversed(skipped) if skip.detail}
    lines = [
        f"no usable scene in {len(skipped)} tries: {describe_skips(counts, skipped)}; "
        "change the data's filters or view sampler, or mend the data",
        *(f"{first[r].name}: {first[r].detail}" for r, _ in counts.most_common() if r in first),
    ]
    return "\n".join(lines)


def describe_skips(counts: Counter[str], skipped: Iterable[SkippedScene]) -> str:
    """``12 too few frames (a, b, ...), 3 damaged (c)``."""
    names: dict[str, dict[str, None]] = {}
    for skip in skipped:
        names.setdefault(skip.reason, {})[skip.name] = None
    named = {r: f" ({few(list(found), _SHOWN_NAMES)})" for r, found in names.items()}
    return ", ".join(f"{n} {reason}{named.get(reason, '')}" for reason, n in counts.most_common())
