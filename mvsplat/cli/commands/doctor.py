"""``doctor``: whether this installation works, and what to do where it does not."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial

from mvsplat.doctor import Finding, examine

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def main(argv: list[str]) -> None:
    """Examine and report; the exit code is 1 if something that must work does not."""
    # Not jsonargparse: this command must run where required packages are broken.
    parser = argparse.ArgumentParser(
        prog="mvsplat doctor",
        description="Check this installation: versions, processor and devices, the rasterizers "
        "(each draws a splat whose picture is known), weights, optional packages; say what to do "
        "about each problem. The exit code is 1 if something that must work does not.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--build",
        action="store_true",
        help="build gsplat's CUDA extension, if that is still to be done; takes minutes",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(argv)
    problems = report_json(options.build) if options.json else report(options.build)
    if problems:
        sys.exit(1)


def diagnose(build: bool) -> Iterator[tuple[str, Finding]]:
    """Everything that is found, by section, as it is found.

    Args:
        build: Build gsplat's CUDA extension where it is needed and missing.
    """
    from mvsplat.doctor import machine, rasterizers, software, weights

    sections: dict[str, dict[str, Callable[[], Iterable[Finding]]]] = {
        "software": {"packages": software.packages},
        "machine": {"processor": machine.processor, "devices": machine.devices},
        "rasterizers": {
            "engine auto": rasterizers.engine_in_use,
            "engine cpu": rasterizers.cpu,
            "engine gsplat": partial(rasterizers.gsplat, build),
        },
        "weights": {"small": weights.small, "LPIPS": weights.lpips},
        "optional packages": {"extras": software.extras},
    }
    for section, checks in sections.items():
        for subject, check in checks.items():
            for finding in examine(subject, check):
                yield section, finding
                if finding.subject == "torch" and finding.verdict == "problem":
                    return  # the same again for everything that follows


def report_json(build: bool) -> int:
    """Print a list of findings; returns the number of problems."""
    found = [{"section": section, **asdict(finding)} for section, finding in diagnose(build)]
    print(json.dumps(found, indent=2))
    return sum(finding["verdict"] == "problem" for finding in found)


def report(build: bool) -> int:
    """Print a line for each finding, for people; returns the number of problems."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    last, problems = "", 0
    with console.status("examining ...") as status:
        for section, finding in diagnose(build):
            if section != last:
                console.print(Text(("\n" if last else "") + section.capitalize(), style="bold"))
                last = section
                status.update(f"examining: {section} ...")
            verdict = (f"  {finding.verdict:<8}", STYLES[finding.verdict])
            line = Text.assemble(verdict, f" {finding.subject:<19} {finding.text}")
            console.print(line, soft_wrap=True)
            if finding.advice:
                console.print(Text(f"{'':31}-> {finding.advice}"), soft_wrap=True)
            problems += finding.verdict == "problem"
    if problems:
        console.print(Text(f"\n{problems} problem{'s' * (problems > 1)}.", style="bold red"))
    else:
        console.print(Text("\nEverything that must work does.", style="bold green"))
    return problems
