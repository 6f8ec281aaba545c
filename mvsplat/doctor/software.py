"""Python and packages: what is installed, whether it fits and whether it can be imported."""

import platform
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mvsplat import __version__
from mvsplat.doctor.findings import Finding

MISSING = "not installed"
# Shown with their versions; of the others, only what is missing or does not fit.
SHOWN = ("torch", "lightning", "numba", "gsplat", "av")
# Modules of packages that bring compiled code, which can fail to load though it is installed.
COMPILED = {
    "torch": "torch",
    "numba": "numba",
    "av": "av",
    "pillow": "PIL",
    "lightning": "lightning",
}
# What each extra is for, and the package that it is about.
EXTRAS = {
    "view": ("viser", "walking around in splats (mvsplat view)"),
    "photos": ("pycolmap", "cameras for photos that have none (mvsplat reconstruct)"),
    "hub": ("huggingface_hub", "uploading weights (mvsplat push)"),
}


def packages() -> Iterator[Finding]:
    """Python, this package and what it requires."""
    try:
        required = _requirements()
    except metadata.PackageNotFoundError:
        yield Finding(
            "mvsplat",
            "note",
            f"{__version__} in {Path(__file__).parents[1]}, used without being installed, so that "
            "other packages' versions cannot be checked",
            "pip install . in the clone of the repository",
        )
        return
    yield _python()
    yield Finding("mvsplat", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    fine = 0
    for requirement in required:
        finding = _installed(requirement, COMPILED.get(requirement.name))
        if finding.verdict != "ok" or requirement.name in SHOWN:
            yield finding
        else:
            fine += 1
    yield Finding("others", "ok", f"{fine} more required packages fit")


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    facts = metadata.metadata("mvsplat")
    wanted = facts["Requires-Python"] if "Requires-Python" in facts else ""
    if SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return Finding("python", "ok", found)
    advice = "make a virtual environment with a Python that fits, and install mvsplat there"
    return Finding("python", "problem", f"{found}, expected {wanted}", advice)


def extras() -> Iterator[Finding]:
    """The optional packages: not having one is no problem, having a broken one is."""
    for extra, (name, purpose) in EXTRAS.items():
        fitting = [requirement for requirement in _requirements(extra) if requirement.name == name]
        finding = _installed(fitting[0] if fitting else Requirement(name), name)
        if finding.text == MISSING:
            advice = f"pip install 'mvsplat[{extra}]'"
            finding = Finding(name, "note", f"not installed: {purpose}", advice)
        yield finding


def _requirements(extra: str = "") -> list[Requirement]:
    """What the package requires here, or what one of its extras adds."""
    found = [Requirement(line) for line in metadata.requires("mvsplat") or []]
    needed = [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]
    return [r for r in needed if not extra or (r.marker and "extra" in str(r.marker))]


def _installed(requirement: Requirement, module: str | None) -> Finding:
    """Whether a requirement is met, and its module can be imported."""
    name = requirement.name
    wanted = f"{name}{_brackets(requirement.extras)}{requirement.specifier}"
    advice = f"pip install '{wanted}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "problem", MISSING, advice)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(
            name, "problem", f"{version} found, expected {requirement.specifier}", advice
        )
    try:
        if module is not None:
            import_module(module)
    except Exception as error:  # a broken binary surfaces as many kinds of exceptions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = f"pip install --force-reinstall '{wanted}'"
        return Finding(name, "problem", f"{version} cannot be imported: {reason}", advice)
    return Finding(name, "ok", version)


def _brackets(extras: set[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""
