"""The table of metrics, which scores, files, tables, comparisons and logs follow.

A metric of a user is a class derived from :class:`Metric`; nothing else has to know of it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.evaluation import metrics

Direction = Literal["higher", "lower"]
_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_RESERVED = ("frame", "mean", "method", "metric", "scene", "views")


@dataclass(frozen=True)
class MetricDescription:
    """How a metric's scores are shown and judged.

    Args:
        heading: Its name in tables.
        digits: Decimals that are shown.
        better: Whether "higher" or "lower" scores are better; None if nobody knows.
        unit: The scores' unit.
    """

    heading: str
    digits: int = 4
    better: Direction | None = None
    unit: str = ""

    @property
    def column(self) -> str:
        """The heading of a column; an arrow says which way is better."""
        return self.heading + _ARROWS[self.better]

    def number(self, value: float, sign: str = "") -> str:
        """A score with as many digits as papers give it."""
        return f"{value:{sign}.{self.digits}f}"

    def sentence(self, value: float) -> str:
        """``PSNR 23.83 dB``."""
        return f"{self.heading} {self.number(value)}{' ' + self.unit if self.unit else ''}"

    def brief(self, value: float) -> str:
        """``23.83 dB``, or ``SSIM 0.771``: a unit says which score it is."""
        return f"{self.number(value)} {self.unit}" if self.unit else self.sentence(value)

    def gain(self, difference: Any) -> Any:
        """Differences of scores, positive where they are improvements, NaN if nobody knows."""
        signs = {"higher": 1.0, "lower": -1.0, None: float("nan")}
        return signs[self.better] * difference


class Metric(ABC):
    """A score of every view. A subclass says how it is named, shown and judged.

    Attributes:
        name: Its key in files and logs: ``val/<name>``.
        heading: Its name in tables.
        digits: Decimals that are shown.
        better: Whether "higher" or "lower" scores are better.
        unit: The scores' unit.
        needs_depth: It compares the depth of the context views, where the data has exact depth and
            the method estimates one, instead of the colours of the target views.
    """

    name: str
    heading: str
    digits: int = 3
    better: Direction
    unit: str = ""
    needs_depth: bool = False

    @abstractmethod
    def score(
        self, prediction: Float[Tensor, "*size"], truth: Float[Tensor, "*size"]
    ) -> Float[Tensor, "b v"]:
        """The score of each view; views without anything to compare get NaN if it needs depth.

        Args:
            prediction: Colours [b, v, 3, h, w] in [0, 1]; or depth [b, v, h, w].
            truth: What they should be; exact depth is unknown where it is not positive and finite.
        """


class PSNR(Metric):
    """:func:`mvsplat.evaluation.metrics.psnr`."""

    name, heading, digits, better, unit = "psnr", "PSNR", 2, "higher", "dB"

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return metrics.psnr(prediction, truth)


class SSIM(Metric):
    """:func:`mvsplat.evaluation.metrics.ssim`."""

    name, heading, better = "ssim", "SSIM", "higher"

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return metrics.ssim(prediction, truth)


class LearnedDistance(Metric):
    """LPIPS.

    Args:
        distance: The network, :class:`mvsplat.evaluation.lpips.PerceptualDistance`.
    """

    name, heading, better = "lpips", "LPIPS", "lower"

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]):
        self.distance = distance

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        if isinstance(self.distance, nn.Module):
            self.distance.to(prediction.device)
        return self.distance(prediction, truth)


class AbsRel(Metric):
    """:func:`mvsplat.evaluation.metrics.abs_rel`."""

    name, heading, better, needs_depth = "abs_rel", "AbsRel", "lower", True

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return metrics.abs_rel(prediction, truth)


TABLE: tuple[type[Metric], ...] = (PSNR, SSIM, LearnedDistance, AbsRel)
"""The package's own metrics, in the order in which they are shown."""
STANDARD: tuple[Metric, ...] = (PSNR(), SSIM(), AbsRel())
"""What is always measured; AbsRel where depth is known."""


def describe(metric: Metric | type[Metric]) -> MetricDescription:
    """How a metric's scores are shown and judged."""
    return MetricDescription(metric.heading, metric.digits, metric.better, metric.unit)


DESCRIPTIONS = {metric.name: describe(metric) for metric in TABLE}
"""How the package's own metrics are shown and judged."""
METRICS = {name: description.column for name, description in DESCRIPTIONS.items()}
"""The package's own metrics and their headings; the arrow says which way is better."""


def in_order(names: Iterable[str]) -> list[str]:
    """Names of metrics, each once: those of the table first, in its order."""
    distinct = dict.fromkeys(names)
    return sorted(distinct, key=[*DESCRIPTIONS, *distinct].index)


def with_standard(further: Iterable[Metric]) -> tuple[Metric, ...]:
    """The standard metrics and further ones.

    Raises:
        ValueError: One does not say how it is named, shown or judged, or its name is taken.
    """
    chosen = {metric.name: metric for metric in STANDARD}
    for metric in further:
        _check(metric)
        if metric.name in chosen or (metric.name in DESCRIPTIONS and not isinstance(metric, TABLE)):
            raise ValueError(
                f"two metrics are named {metric.name!r}, {label(metric)} is one of them: give it "
                "another name"
            )
        chosen[metric.name] = metric
    return tuple(chosen.values())


def label(metric: Metric) -> str:
    """A metric in an error message: its name, and where its code is."""
    cls = type(metric)
    return f"{getattr(metric, 'name', '(nameless)')} ({cls.__module__}.{cls.__qualname__})"


def as_json(metric: Metric) -> dict[str, Any]:
    """A metric's description, for results files."""
    return asdict(describe(metric))


def from_json(name: str, content: dict[str, Any]) -> MetricDescription:
    """The description that :func:`as_json` wrote.

    Raises:
        TypeError: It is something else.
    """
    try:
        description = MetricDescription(**content)
    except TypeError as error:
        raise TypeError(f"metric {name!r}: {error}") from error
    if problem := _problem(description):
        raise TypeError(f"metric {name!r}: {problem}")
    return description


def _check(metric: Metric) -> None:
    missing = [name for name in ("name", "heading", "better") if not hasattr(metric, name)]
    if missing:
        raise ValueError(f"the metric {label(metric)} does not say its {', '.join(missing)}")
    if not re.fullmatch(r"[A-Za-z]\w*", str(metric.name)) or metric.name in _RESERVED:
        raise ValueError(
            f"the metric {label(metric)} has the name {metric.name!r}; expected a word of letters, "
            f"digits and underscores, and none of {', '.join(_RESERVED)}"
        )
    problem = "better is None" if metric.better is None else _problem(metric)
    if problem:
        raise ValueError(f"the metric {label(metric)}: {problem}")


def _problem(shown: Metric | MetricDescription) -> str:
    """What is wrong with how a metric is to be shown and judged; empty if nothing is."""
    if shown.better not in (*get_args(Direction), None):
        return f"better is {shown.better!r}; expected 'higher' or 'lower'"
    if type(shown.digits) is not int or not 0 <= shown.digits <= 16:
        return f"digits is {shown.digits!r}; expected an integer from 0 to 16"
    for name, text in (("heading", shown.heading), ("unit", shown.unit)):
        if not isinstance(text, str):
            return f"{name} is {text!r}; expected text"
    return "" if shown.heading else "heading is empty"
