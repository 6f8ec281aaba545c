"""Evaluation indices: files that list which views of which scenes are evaluated.

The format is the published one, with fields of ours that other readers ignore: a JSON object from
a name to null (the scene is left out) or to an object with

* ``context``: the context views' frame numbers, counted from 0;
* ``target``: those of the views to render and compare;
* ``scene``, optional: the data's scene, where the name is not its key, because it occurs several
  times. Without it, names like scan1_00 and scan1_01 also mean the scene scan1;
* ``overlap``, optional: how much the context views show of the same, from 0 to 1 (the lowest link
  that connects them all). Some published indices have a word here ("small"): it is read as tier;
* ``tier``, optional: the group of entries that results are put together by.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvsplat.data.wording import few, frames
from mvsplat.files import replacing

_MOST_FRAMES = 2**31
_LONGEST_TIER = 100
_LONGEST_QUOTE = 120


@dataclass(frozen=True)
class IndexEntry:
    """The views of one evaluation; see the module's description.

    Args:
        context: Frame numbers of the context views.
        target: Frame numbers of the target views.
        scene: The data's scene, where it is not what the entry is called.
        overlap: How much the context views show of the same, 0 to 1.
        tier: Results are grouped by it.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    scene: str | None = None
    overlap: float | None = None
    tier: str | None = None

    def notes(self) -> dict[str, float | str]:
        """What results are grouped by: ``overlap`` and ``tier``, as far as they are known."""
        known = {"overlap": self.overlap, "tier": self.tier}
        return {name: value for name, value in known.items() if value is not None}


EvaluationIndex = Mapping[str, IndexEntry | None]


def read_evaluation_index(path: str | Path) -> dict[str, IndexEntry | None]:
    """The entries of an index file by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no evaluation index; names the file, the entry and the field.
    """
    entries, problems = _read(Path(path))
    if problems:
        raise _bad_entries(path, problems)
    return entries


def read_usable_entries(
    path: str | Path,
) -> tuple[dict[str, IndexEntry | None], dict[str, str]]:
    """The entries of an index file that can be read, and what is wrong with each of the others.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no evaluation index, or has bad entries only.
    """
    entries, problems = _read(Path(path))
    if problems and not entries:
        raise _bad_entries(path, problems)
    return entries, problems


def _bad_entries(path: str | Path, problems: Mapping[str, str]) -> ValueError:
    name, problem = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more such entries)" if len(problems) > 1 else ""
    return ValueError(f"{path}, scene {name!r}: {problem}{more}")


def _read(path: Path) -> tuple[dict[str, IndexEntry | None], dict[str, str]]:
    index = _read_object(path)
    entries: dict[str, IndexEntry | None] = {}
    problems: dict[str, str] = {}
    for name, entry in index.items():
        try:
            if name in index.twice:
                raise ValueError("the entry is there twice")
            entries[name] = None if entry is None else _entry(entry)
        except ValueError as error:
            problems[name] = str(error)
    return entries, problems


def _read_object(path: Path) -> "_Object":
    try:
        text = path.read_text(encoding="utf-8")
        index = json.loads(text, object_pairs_hook=_Object)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no evaluation index {path}") from None
    except OSError as error:
        raise ValueError(f"the evaluation index {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the evaluation index {path} is not JSON: {error}") from error
    if not isinstance(index, _Object):
        raise ValueError(f"{path} holds a {type(index).__name__}, expected {{scene: views}}")
    return index


def write_evaluation_index(path: str | Path, entries: EvaluationIndex) -> None:
    """Write an index file, one entry a line; it has its name only when it is complete."""
    lines = [
        f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(_fields(entry), ensure_ascii=False)}"
        for name, entry in entries.items()
    ]
    with replacing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def scene_of(name: str, entry: IndexEntry | None, known: Iterable[str]) -> str | None:
    """The data's scene that an entry means, or None: it is not among the ``known`` ones.

    That is the scene it states, the scene it is called, or the one it is a numbered run of.
    """
    known = known if isinstance(known, (set, frozenset, dict)) else set(known)
    if entry is not None and entry.scene is not None:
        return entry.scene if entry.scene in known else None
    if name in known:
        return name
    scene, _, run = name.rpartition("_")
    return scene if run.isdigit() and scene in known else None


def odd_views(entries: EvaluationIndex, names: Collection[str]) -> list[str]:
    """What is odd about some entries' views, a line a kind: views that are there twice."""
    odd: dict[str, list[str]] = {}

    def note(problem: str, name: str, numbers: Iterable[int]) -> None:
        if numbers := sorted(numbers):
            odd.setdefault(problem, []).append(f"{name}: {frames(numbers)}")

    for name in names:
        entry = entries[name]
        if entry is None:
            continue
        context, target = Counter(entry.context), Counter(entry.target)
        note("have targets that are context views", name, {*context} & {*target})
        note("name a target twice, which counts once", name, _twice(target))
        note("name a context view twice, which the model gets twice", name, _twice(context))
    return [
        f"{len(found)} of {len(names)} entries {problem} ({few(found, separator='; ')})"
        for problem, found in odd.items()
    ]


def _twice(counts: Counter[int]) -> set[int]:
    return {number for number, count in counts.items() if count > 1}


def _entry(fields: Any) -> IndexEntry:
    if not isinstance(fields, _Object) or not all(
        _is_frame_list(fields.get(kind)) for kind in ("context", "target")
    ):
        raise ValueError(
            'expected null or {"context": [frame, ...], "target": [frame, ...]} with frames '
            f"counted from 0, found {json.dumps(fields)[:_LONGEST_QUOTE]}"
        )
    if fields.twice:
        raise ValueError(f"it has {min(fields.twice)!r} twice")
    scene, overlap, tier = (fields.get(name) for name in ("scene", "overlap", "tier"))
    if isinstance(overlap, str):
        overlap, tier = None, overlap if tier is None else tier
    if overlap is not None and not (type(overlap) in (int, float) and 0 <= overlap <= 1):
        raise ValueError(f"overlap is {overlap!r}, expected a number from 0 to 1")
    if tier is not None and not (isinstance(tier, str) and 0 < len(tier) <= _LONGEST_TIER):
        raise ValueError(f"tier is {str(tier)[:50]!r}, expected a short text")
    if scene is not None and not isinstance(scene, str):
        raise ValueError(f"scene is {scene!r}, expected the key of a scene")
    return IndexEntry(tuple(fields["context"]), tuple(fields["target"]), scene, overlap, tier)


def _fields(entry: IndexEntry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    fields: dict[str, Any] = {"context": list(entry.context), "target": list(entry.target)}
    if entry.scene is not None:
        fields["scene"] = entry.scene
    return fields | entry.notes()


def _is_frame_list(numbers: object) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) > 0
        # Not isinstance: true and false are integers to it.
        and all(type(number) is int and 0 <= number < _MOST_FRAMES for number in numbers)
    )


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys it has twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.twice = {key for key, count in counts.items() if count > 1}
