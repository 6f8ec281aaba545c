"""Where configuration files are: a path, or the name of one that comes with the package."""

from difflib import get_close_matches
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# In a wheel they lie in the package, in a checkout beside it.
FOLDER = next(p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir())


def shipped() -> list[str]:
    """Names of the configurations that come with the package, as ``--config`` takes them."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))


def find(name: str) -> Path:
    """The file that ``--config NAME`` means.

    A path of an existing file comes first; then ``re10k``, ``re10k.yaml`` and
    ``configs/re10k.yaml`` name a shipped one from any directory.

    Raises:
        FileNotFoundError: There is neither; names the nearest shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    short = path.with_suffix("") if path.suffix == ".yaml" else path
    if not path.is_absolute():
        for candidate in (
            short,
            Path(*short.parts[1:]) if short.parts[:1] == ("configs",) else short,
        ):
            file = FOLDER / candidate.with_name(candidate.name + ".yaml")
            if candidate.name and file.is_file():
                return file
    near = get_close_matches(short.name, shipped(), n=3, cutoff=0.5) or shipped()
    raise FileNotFoundError(
        f"no configuration file {name!r}; the ones that come with mvsplat: {', '.join(near)}"
    )
