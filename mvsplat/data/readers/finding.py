"""Finding the pictures that data names: one resolver for all readers.

The names in a file are matched against files that are there, in folders the program chooses: the
places where pictures of this kind of data belong, and only if they are not there, other folders of
the scene and the folder above it. A name is first looked up as it is, then in other forms
(:mod:`mvsplat.data.readers.picture_names`), then without its leading folders, one after the other.
Whatever a file says, no file outside of these folders is found, but for symbolic links, which are
the user's own.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mvsplat.data.left_out import MISSING, LeftOut
from mvsplat.data.readers.folder_listing import Listings, links_on_the_way
from mvsplat.data.readers.picture_names import (
    Form,
    components,
    is_relative,
    means_the_same,
)
from mvsplat.data.readers.picture_search import (
    Search,
    other_places,
    shortened_name,
    with_smaller,
)


@dataclass
class Found:
    """The files of pictures, and what is to be told about them.

    Args:
        paths: By name as the data has it; names without a picture are not in it.
        names: What to call them: as the data does, but without what leads elsewhere.
        left_out: Names without a picture, by reason.
        notes: Sentences: what was guessed, which links were followed.
        looked: Where pictures were looked for and what is there, for the error if there are none.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: list[str] = field(default_factory=list)
    looked: str = ""


def find_pictures(
    names: Sequence[str],
    root: Path,
    places: Sequence[Path],
    elsewhere: Callable[[], Sequence[Path]] | None = None,
    follow_links: bool = True,
) -> Found:
    """The files of pictures that data names.

    Args:
        names: As the data has them.
        root: The scene's folder.
        places: Folders that names are relative to, the preferred one first.
        elsewhere: Folders to look in for what is not there; by default the scene's folder, its
            folders of pictures, and those of the folder above.
        follow_links: Whether to take pictures that symbolic links out of the folders lead to.

    Raises:
        TwoFit: Two files with different content fit a name equally well; names both.
    """
    search = Search(root, list(places), elsewhere or (lambda: other_places(root, names)))
    parts = _split(root, names)
    search.run(parts)
    return _Report(search, parts, follow_links).found()


def find_file(
    name: str, root: Path, follow_links: bool = True, listings: Listings | None = None
) -> Path | None:
    """A file that data names, in the scene's folder: the longest end of its name that is there.

    Args:
        name: As the data has it.
        root: The scene's folder.
        follow_links: Whether to take a file that symbolic links out of the folder lead to.
        listings: Folders as they were listed for other names.
    """
    listings, parts = listings or Listings(), components(name)
    for start in range(len(parts)):
        for path in listings.files(root, parts[start:], Form.EXACT):
            if follow_links or not any(links_on_the_way(root, path)):
                return path
    return None


class _Report:
    """What to tell about a search."""

    def __init__(
        self, search: Search, parts: dict[str, tuple[str, ...]], follow_links: bool
    ) -> None:
        self.search = search
        self.parts = parts
        self.follow_links = follow_links
        self.links: dict[Path, Path] = {}
        self.dead_links: dict[Path, Path] = {}
        self.guesses: list[tuple[str, Path]] = []

    def found(self) -> Found:
        found = Found()
        for name, parts in self.parts.items():
            path = self.search.paths.get(name)
            if path is None:
                found.left_out.add(self._why_not(name, parts), name)
            elif self._may_be_taken(path):
                found.paths[name] = path
                home, _ = self._home(path)
                found.names[name] = name if is_relative(name) else _relative(path, home) or name
                if not self._is_as_named(name, parts, path):
                    self.guesses.append((name, path))
            else:
                found.left_out.add(
                    "pictures are behind symbolic links, which follow_links forbids", name
                )
        found.notes = list(self._notes())
        found.looked = "" if found.paths else self._looked()
        return found

    def _is_as_named(self, name: str, parts: tuple[str, ...], path: Path) -> bool:
        if not is_relative(name) and parts == components(name):
            return False
        return any(
            means_the_same("/".join(names), _relative(path, place) or "")
            for place in self.search.places
            for names in with_smaller(parts)
        )

    def _may_be_taken(self, path: Path) -> bool:
        links = dict(links_on_the_way(*self._home(path)))
        self.links |= links
        return self.follow_links or not links

    def _home(self, path: Path) -> tuple[Path, Path]:
        """The folder the program chose to look in, and the path in it."""
        homes = [self.search.root, *self.search.looked_in]
        home = next(home for home in homes if _relative(path, home) is not None)
        return home, path

    def _why_not(self, name: str, parts: tuple[str, ...]) -> str:
        if not parts:
            return "pictures have no name of a file"
        if name in self.search.contested:
            return "pictures are missing: one file fits several names, and none exactly"
        for place in self.search.places:
            home, path = self._home(place.joinpath(*parts))
            try:
                for link, target in links_on_the_way(home, path):
                    if not link.exists():
                        self.dead_links[link] = target
                        return "pictures are missing: symbolic links lead nowhere"
            except OSError:  # a name longer than any file's
                continue
        return MISSING

    def _notes(self) -> Iterator[str]:
        if self.guesses:
            name, path = self.guesses[0]
            yield (
                f"{_count(len(self.guesses), 'picture is', 'pictures are')} under another name or "
                f"in another place than the data says: {shortened_name(name)} is taken from {path}"
            )
        followed = {k: v for k, v in self.links.items() if self.follow_links}
        for links, verb in ((followed, "followed"), (self.dead_links, "broken")):
            if links:
                link, target = next(iter(links.items()))
                kind = _count(len(links), "symbolic link is", "symbolic links are")
                yield f"{kind} {verb}: {link} leads to {target}"

    def _looked(self) -> str:
        """Where pictures were looked for, and what is there."""
        parts = []
        for place in self.search.looked_in:
            pictures = self.search.listings[place].pictures
            if pictures:
                names = ", ".join(pictures[:3])
                parts.append(f"{place} holds {names}{', ...' if len(pictures) > 3 else ''}")
        nothing = f"no picture is in {' or '.join(map(str, self.search.places[:2]))}"
        return "; ".join(parts[:3]) or nothing


def _split(root: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names' components; of absolute ones of files in the scene's folder, those below it."""
    above = [components(folder) for folder in (os.path.abspath(root), os.path.realpath(root))]
    result = {}
    for name in dict.fromkeys(names):
        parts = components(name)
        for folder in above:
            if not is_relative(name) and parts[: len(folder)] == folder:
                parts = parts[len(folder) :]
                break
        result[name] = parts
    return result


def _relative(path: Path, folder: Path) -> str | None:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return None


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
