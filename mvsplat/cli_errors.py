"""Says in a few lines what is wrong with a configuration: where, what, and the nearest choice."""

import inspect
import re
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import yaml

_NOISE = re.compile(
    r"^(Parser key |Does not validate|Subtypes:|Errors:|Given value|Problem with given class_path"
    r"|Expected a <class 'NoneType'>|Expected a path but|not a string|Error:$)"
)


class ShortErrors:
    """A parser mixin: errors in a few lines, exit code 2, no dump of all options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.config_files: list[str] = []

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        sys.stderr.write(explain(parser, message, getattr(parser, "config_files", [])) + "\n")
        sys.exit(2)


def explain(parser: Any, message: str, config_files: list[str]) -> str:
    """At most five lines for a person: the option, what is wrong, its file, what is valid.

    Args:
        parser: The parser that failed; its options are the valid choices.
        message: jsonargparse's message.
        config_files: The configuration files that were read, in order.
    """
    key, problem, choices, wrong = _analyse(parser, message)
    lines = [f"error: {key + ': ' if key else ''}{problem}"]
    where = _file_of(key, wrong, config_files)
    if where:
        lines.append(f"  in {where}")
    near = get_close_matches(wrong, choices, n=3, cutoff=0.5) if wrong else []
    if near:
        lines.append(f"  did you mean {' or '.join(near)}?")
    elif choices:
        lines.append(f"  valid: {', '.join(choices[:20])}{', ...' if len(choices) > 20 else ''}")
    return "\n".join(lines)


def _analyse(parser: Any, message: str) -> tuple[str, str, list[str], str]:
    """The option's dotted name, the problem, the valid choices, and the word that is not one."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = ".".join(keys)
    if found := re.search(r"does not accept option '([^']+)'", message):
        return _unknown_option(parser, found[1])
    if found := re.search(r"unrecognized arguments: (.+)", message):
        return _unknown_option(parser, found[1].split()[0].split("=")[0].lstrip("-"))
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        paths = re.findall(r"Problem with given class_path '([^']+)'", message[: found.start()])
        choices = _parameters(paths[-1]) if paths else []
        of = f" of {_short(paths[-1])}" if paths else ""
        return key, f"{found[1]!r} is not an option{of}", choices, found[1]
    if found := re.search(r"Expected a dot import path string: (.+)", message):
        return key, f"there is no class {found[1]!r}", _classes(parser, key), found[1]
    if found := re.search(r"(No module named .+|cannot import name [^(]+)", message):
        return key, found[1].strip(), [], ""
    leaves = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    problems = [line for line in leaves if not _NOISE.match(line)] or leaves
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", "; ".join(problems[:2]))
    return key, re.sub(r'^Parser key "[^"]+": ', "", text), [], ""


def _unknown_option(parser: Any, option: str) -> tuple[str, str, list[str], str]:
    """Finds the first part of a dotted name that is unknown, and the names known at its place."""
    known = {action.dest for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")}
    parts = option.split(".")
    for depth in range(len(parts)):
        prefix = ".".join(parts[:depth])
        level = {
            name[len(prefix) :].lstrip(".").split(".")[0]
            for name in known
            if not prefix or name.startswith(prefix + ".")
        } - {""}
        if level and parts[depth] not in level:
            at = f" of {prefix}" if prefix else ""
            problem = f"{parts[depth]!r} is not an option{at}"
            return ".".join(parts[: depth + 1]), problem, sorted(level), parts[depth]
    return option, "is not an option", [], ""


def _parameters(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    try:
        return [p for p in inspect.signature(getattr(import_module(module), name)).parameters]
    except (ImportError, AttributeError, ValueError):
        return []


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _classes(parser: Any, key: str) -> list[str]:
    """Short names of the classes that an option takes."""
    for action in parser._actions:
        if action.dest and (key == action.dest or key.startswith(action.dest + ".")):
            bases = re.findall(r"[\w.]+\.[A-Z]\w+", str(getattr(action, "_typehint", "")))
            return sorted({name for base in bases for name in _subclasses(base)})
    return []


def _subclasses(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    try:
        base = getattr(import_module(module), name)
        stack, found = [base], []
        while stack:
            cls = stack.pop()
            stack += cls.__subclasses__()
            if not inspect.isabstract(cls):
                found.append(cls.__name__)
        return found
    except (ImportError, AttributeError, TypeError):
        return []


def _file_of(key: str, wrong: str, config_files: list[str]) -> str:
    """The last configuration file in which the option stands, if one has it."""
    for path in reversed(config_files):
        try:
            with open(path) as file:
                content = yaml.safe_load(file)
        except (OSError, yaml.YAMLError):
            return path
        if not isinstance(content, dict) or (key and _mentions(content, key.split("."), wrong)):
            return path
    return ""


def _mentions(content: Any, parts: list[str], wrong: str) -> bool:
    for part in parts:
        if not isinstance(content, dict):
            break
        content = content.get(part, content.get("init_args", {}).get(part))
        if content is None:
            return False
    return not wrong or wrong in str(content) or (bool(parts) and wrong == parts[-1])
