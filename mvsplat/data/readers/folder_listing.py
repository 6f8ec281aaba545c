"""Folders listed once, to look names up in, and the symbolic links on the way to a file."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mvsplat.data.readers.picture_names import Form, in_form, is_readable


class Listing:
    """A folder's files and folders, by their names in any form; empty where there is no folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self._in_form: dict[tuple[Form, bool], dict[str, list[str]]] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._add(entry)
        except (OSError, ValueError):
            return

    def _add(self, entry: "os.DirEntry[str]") -> None:
        try:
            if entry.is_file():
                self.files.add(entry.name)
            elif entry.is_dir():
                self.folders.add(entry.name)
        except OSError:  # a link in a circle
            return

    @cached_property
    def pictures(self) -> list[str]:
        """Names of the pictures in it, in order."""
        return sorted(filter(is_readable, self.files))

    def matching(self, name: str, form: Form, folders: bool = False) -> list[str]:
        """Its files (or folders) that are called so, in a form; in other forms only pictures."""
        names = self.folders if folders else self.files
        if form == Form.EXACT:
            return [name] if name in names else []
        if (form, folders) not in self._in_form:
            table: dict[str, list[str]] = {}
            for there in sorted(names):
                if folders or is_readable(there):
                    table.setdefault(in_form(there, form), []).append(there)
            self._in_form[form, folders] = table
        return self._in_form[form, folders].get(in_form(name, form), [])


class Listings:
    """Listings of folders, each made on first use."""

    def __init__(self) -> None:
        self._made: dict[Path, Listing] = {}
        self._folders: dict[tuple[Path, tuple[str, ...], Form], list[Path]] = {}

    def __getitem__(self, path: Path) -> Listing:
        if path not in self._made:
            self._made[path] = Listing(path)
        return self._made[path]

    def folders(self, place: Path, names: tuple[str, ...], form: Form) -> list[Path]:
        """Folders below a place whose names agree with ``names``, one a level."""
        if not names:
            return [place]
        form = min(form, Form.SPELLING)
        key = place, names, form
        if key not in self._folders:
            self._folders[key] = [
                folder / match
                for folder in self.folders(place, names[:-1], form)
                for match in self[folder].matching(names[-1], form, folders=True)
            ]
        return self._folders[key]

    def files(self, place: Path, names: tuple[str, ...], form: Form) -> list[Path]:
        """Files below a place whose folders and name agree with ``names``."""
        return [
            folder / match
            for folder in self.folders(place, names[:-1], form)
            for match in self[folder].matching(names[-1], form)
        ]


def links_on_the_way(home: Path, path: Path) -> Iterator[tuple[Path, Path]]:
    """Symbolic links between a folder and a path in it that lead out of the folder, or nowhere.

    Yields:
        The link, and what it leads to; for one that leads nowhere, what is written in it.
    """
    real = os.path.realpath(home).rstrip("/") + "/"
    here = home
    for part in path.relative_to(home).parts:
        here = here / part
        if not here.is_symlink():
            continue
        target = os.path.realpath(here)
        if not os.path.exists(target):
            yield here, Path(os.readlink(here))
            return
        if not f"{target}/".startswith(real):
            yield here, Path(target)
