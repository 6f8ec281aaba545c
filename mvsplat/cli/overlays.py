"""``--config`` of the trainer's commands: a second file overlays the first."""

from collections.abc import Iterator
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, Namespace

from mvsplat.cli import config_files

LOSSES = "model.losses"

FOLLOWING = {
    "model.max_steps": "trainer.max_steps",
    "data.seed": "seed_everything",
    "trainer.default_root_dir": "run_dir",
}
"""Options that cannot be set, and those whose value they get."""


class ConfigFile(ActionConfigFile):
    """``--config``: a path or a shipped name; losses are overlaid one at a time."""

    def __call__(self, parser, cfg, values, option_string=None):
        parser.config_files.append(path := str(config_files.find(values)))
        before = _losses(cfg)
        _forget_other_classes(cfg, path)
        super().__call__(parser, cfg, path, option_string)
        for option, source in FOLLOWING.items():
            # jsonargparse refuses them on the command line, but would drop a file's without a word.
            if cfg.get(option) is not None:
                parser.error(f'Linked "{option}" must be given via "{source}".')
        if (after := cfg.get(LOSSES)) is not None and before:
            cfg[LOSSES] = _overlay(before, _as_dict(after))


def _forget_other_classes(cfg: Namespace, path: str) -> None:
    """Let go of the arguments of classes in whose place a file names others.

    jsonargparse would hand them on where the other class has an argument of the same name: a scene
    source of a user's would get the frames and the angles of the generated rooms. A class derived
    from the one before does get them.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return  # jsonargparse says what is wrong with it
    for option, given in _classes(content, ""):
        now = _as_dict(cfg.get(option))
        if isinstance(now, dict) and "class_path" in now:
            if not _same_class(given, now["class_path"]) and not _derives(given, now["class_path"]):
                cfg[option] = None


def _derives(path: str, other: str) -> bool:
    """Whether a class path, or a short name, means a class derived from another one."""
    base = locate(other)
    if not isinstance(base, type):
        return False
    if "." not in path:
        below: list[type] = list(base.__subclasses__())
        for cls in below:
            below += cls.__subclasses__()
        return any(cls.__name__ == path for cls in below)
    try:
        found = locate(path)
    except ErrorDuringImport:  # jsonargparse says so
        return False
    return isinstance(found, type) and issubclass(found, base)


def _classes(content: Any, option: str) -> Iterator[tuple[str, str]]:
    """Options that a file gives in words, and what may be the classes it names for them."""
    if isinstance(content, str):
        yield option, content
    elif isinstance(content, dict) and option != LOSSES:
        if isinstance(content.get("class_path"), str):
            yield option, content["class_path"]
        for name, value in content.items():
            yield from _classes(value, f"{option}.{name}" if option else str(name))


def _as_dict(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _losses(cfg: Namespace) -> dict[str, Any]:
    return {name: _as_dict(loss) for name, loss in (_as_dict(cfg.get(LOSSES)) or {}).items()}


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Losses of two files: a name in ``above`` is added, replaced, or changed in its arguments."""
    merged = dict(below)
    for name, loss in above.items():
        loss, under = _as_dict(loss), _as_dict(below.get(name))
        loss = {"class_path": loss} if isinstance(loss, str) else loss
        if (
            isinstance(loss, dict)
            and isinstance(under, dict)
            and _same_class(loss.get("class_path") or under["class_path"], under["class_path"])
        ):
            arguments = {**(under.get("init_args") or {}), **(loss.get("init_args") or {})}
            loss = {"class_path": under["class_path"], "init_args": arguments}
        merged[name] = loss
    return merged


def _same_class(path: str, other: str) -> bool:
    """Whether two class paths, either of which may be a short name, mean the same class."""
    if "." in path and "." in other:
        return path == other
    return path.rpartition(".")[2] == other.rpartition(".")[2]
