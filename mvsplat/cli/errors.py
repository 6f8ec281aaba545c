"""Says in a few lines what is wrong with a configuration: where, what, and the nearest choice."""

import inspect
import re
import sys
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn, get_args

import yaml
from jsonargparse import SUPPRESS, ArgumentParser

from mvsplat.private_names import options_of, type_of

_NOISE = re.compile(
    r"^(Parser key |Does not validate|Subtypes:|Errors:|Given value|Problem with given class_path"
    r"|Expected a <class 'NoneType'>|Expected a path but|not a string|Error:$)"
)


class ShortErrors:
    """A parser mixin: errors in a few lines, exit code 2, no dump of all options."""

    # What the command being parsed was given; a subcommand's parser adds to its parent's.
    config_files: ClassVar[list[str]] = []
    arguments: ClassVar[list[str]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # type: ignore[call-arg]

    def parse_args(self, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        ShortErrors.config_files.clear()
        args = [_null(str(argument)) for argument in args or []]
        ShortErrors.arguments[:] = args
        return super().parse_args(args, *rest, **kwargs)  # type: ignore[misc]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        sys.stderr.write(explain(parser, message) + "\n")
        sys.exit(2)


def _null(argument: str) -> str:
    """Help texts say ``None``, which people type; in YAML the word for it is ``null``."""
    option, equals, value = argument.rpartition("=")
    is_none = value == "None" and (not equals or option.startswith("--"))
    return f"{option}{equals}null" if is_none else argument


class CommandParser(ShortErrors, ArgumentParser):
    """The parser of a command that needs no trainer."""


@dataclass
class Mistake:
    """What is wrong: the option's dotted name, the problem, the word at fault, the valid words."""

    key: str
    problem: str
    word: str = ""
    choices: list[str] = field(default_factory=list)


def explain(parser: Any, message: str) -> str:
    """At most five lines for a person: the option, what is wrong, its file, what is valid.

    Args:
        parser: The parser that failed; it knows its options, files and arguments.
        message: jsonargparse's message.
    """
    given = _Given(parser)
    mistake = _analyse(parser, given, message)
    lines = [f"error: {mistake.key + ': ' if mistake.key else ''}{mistake.problem}"]
    if file := given.file_of(mistake.key, mistake.word):
        lines.append(f"  in {file}")
    near = get_close_matches(mistake.word, mistake.choices, n=3, cutoff=0.5)
    if mistake.word and near:
        lines.append(f"  did you mean {' or '.join(near)}?")
    elif mistake.choices:
        more = ", ..." if len(mistake.choices) > 20 else ""
        lines.append(f"  valid: {', '.join(mistake.choices[:20])}{more}")
    return "\n".join(lines)


def _analyse(parser: Any, given: "_Given", message: str) -> Mistake:
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    if linked := re.search(r"argument (\S+) --> (\S+):", message):
        return Mistake("", f'Linked "{linked[2]}" must be given via "{linked[1]}".')
    unknown = re.search(r"does not accept option '([^']+)'", message) or re.search(
        r"unrecognized arguments: -*([^\s=]+)", message
    )
    if unknown:
        return _unknown_option(parser, unknown[1])
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        key = key or given.parent_of(found[1])
        classes = re.findall(r"Problem with given class_path '([^']+)'", message[: found.start()])
        path = classes[-1] if classes else given.class_of(key)
        # jsonargparse checks a class's arguments with a parser of their own, which may be this one.
        choices = _parameters(path, _base(parser, key)) or sorted(_options(parser))
        of = f" of {path.rpartition('.')[2] or key}" if path or key else ""
        return Mistake(key, f"{found[1]!r} is not an option{of}", found[1], choices)
    file = re.search(r"Expected a path but (\S+\.ya?ml) either not accessible", message)
    if file:
        return Mistake(key, f"no file {file[1]!r}")
    if found := re.search(r"Expected a dot import path string: (.+)", message):
        choices = sorted(cls.__name__ for cls in _subclasses(_base(parser, key)))
        return Mistake(key, f"there is no class {found[1]!r}", found[1], choices)
    if found := re.search(r"(No module named .+|cannot import name [^(]+)", message):
        return Mistake(key, found[1].strip())
    leaves = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    problems = [line for line in leaves if not _NOISE.match(line)] or leaves
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", "; ".join(problems[:2]))
    if found := re.search(r"Given value: (.{1,80})$", message):
        text += "; the word for no value is null" if found[1] == "None" else f"; found {found[1]}"
    if key and "." not in key:
        parent = given.parent_of(key)
        key = f"{parent}.{key}" if parent else key
    return Mistake(key, re.sub(r'^Parser key "[^"]+": ', "", text))


def _unknown_option(parser: Any, option: str) -> Mistake:
    """Finds the first part of a dotted name that is unknown, and the names known at its place."""
    known = _options(_innermost(parser))
    parts = option.split(".")
    for depth, word in enumerate(parts):
        prefix = ".".join(parts[:depth])
        below = [n.removeprefix(prefix + ".") for n in known if n.startswith(prefix + ".")]
        level = {name.split(".")[0] for name in (below if prefix else known)}
        if level and word not in level:
            problem = f"{word!r} is not an option{' of ' + prefix if prefix else ''}"
            return Mistake(".".join(parts[: depth + 1]), problem, word, sorted(level))
    return Mistake(option, "is not an option")


class _Given:
    """What the user gave: configuration files and arguments, to look for the source of a value."""

    def __init__(self, parser: Any):
        self.files: list[tuple[str, Any]] = []
        self.arguments = [a.lstrip("-") for a in parser.arguments if a[:2] == "--"]
        for path in parser.config_files:
            try:
                with open(path) as file:
                    self.files.append((path, yaml.safe_load(file)))
            except (OSError, yaml.YAMLError):
                self.files.append((path, None))

    def parent_of(self, name: str) -> str:
        """The dotted name of the option under which ``name`` was given, last one first."""
        for argument in self.arguments:
            parts = argument.partition("=")[0].split(".")
            if parts[-1] == name:
                return ".".join(part for part in parts[:-1] if part != "init_args")
        for _, content in reversed(self.files):
            if (path := _find(content, name)) is not None:
                return ".".join(part for part in path if part != "init_args")
        return ""

    def class_of(self, key: str) -> str:
        """The class that the files name for an option."""
        for _, content in reversed(self.files):
            value = _get(content, key)
            if isinstance(value, dict) and "class_path" in value:
                return value["class_path"]
        return ""

    def file_of(self, key: str, word: str) -> str:
        """The last file in which the option or the word stands, or one that cannot be read."""
        words = [w for w in (key.rpartition(".")[2], word) if w]
        if any(w in argument for argument in self.arguments for w in words):
            return ""
        for path, content in reversed(self.files):
            if not isinstance(content, dict):
                return path
            if word and (_find(content, word) is not None or word in str(_get(content, key))):
                return path
            if key and not word and _get(content, key) is not None:
                return path
        return ""


def _options(parser: Any) -> set[str]:
    shown = (option for option in options_of(parser) if option.help != SUPPRESS)
    return {option.dest for option in shown} - {"help", SUPPRESS}


def _innermost(parser: Any) -> Any:
    """The parser of the subcommand, if there is one: there is never more than one here."""
    for option in options_of(parser):
        if isinstance(option.choices, dict) and option.choices:
            return next(iter(option.choices.values()))
    return parser


def _find(content: Any, name: str) -> list[str] | None:
    """The keys that lead to the mapping in which ``name`` is a key."""
    if not isinstance(content, dict):
        return None
    if name in content:
        return []
    for key, value in content.items():
        if (path := _find(value, name)) is not None:
            return [key, *path]
    return None


def _get(content: Any, key: str) -> Any:
    for part in key.split(".") if key else []:
        if not isinstance(content, dict):
            return None
        arguments = content.get("init_args")
        content = content.get(part, arguments.get(part) if isinstance(arguments, dict) else None)
    return content


def _base(parser: Any, key: str) -> Any:
    """The type that an option takes."""
    options = options_of(_innermost(parser))
    fitting = [
        option for option in options if option.dest and f"{key}.".startswith(option.dest + ".")
    ]
    return type_of(max(fitting, key=lambda option: len(option.dest))) if fitting else None


def _subclasses(typehint: Any) -> set[type]:
    """The classes that a type such as ``dict[str, Loss | None]`` admits, and that can be built."""
    if not isinstance(typehint, type) or get_args(typehint):
        return {cls for argument in get_args(typehint) for cls in _subclasses(argument)}
    if typehint.__module__ == "builtins":
        return set()
    children: list[type] = typehint.__subclasses__()
    below = {cls for child in children for cls in _subclasses(child)}
    return below if inspect.isabstract(typehint) else below | {typehint}


def _parameters(path: str, typehint: Any) -> list[str]:
    """The arguments of a class, or of all that are possible where it is not known."""
    classes = _subclasses(typehint)
    named = {cls for cls in classes if cls.__name__ == path.rpartition(".")[2]} or classes
    signatures = [inspect.signature(cls.__init__) for cls in named]  # type: ignore[misc]
    return sorted({n for signature in signatures for n in signature.parameters} - {"self"})
