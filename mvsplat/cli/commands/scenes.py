"""``scenes``: write the generated scenes, so that they can be looked at or used elsewhere."""

from mvsplat.cli.errors import CommandParser
from mvsplat.data.generated.generated_scenes import GeneratedScenes
from mvsplat.data.generated.varied_scenes import VariedScenes
from mvsplat.data.generated.written_scenes import WrittenScenes

SOURCES: dict[str, type[WrittenScenes]] = {"rooms": GeneratedScenes, "varied": VariedScenes}


def main(argv: list[str]) -> None:
    """Write the scenes that ``GeneratedScenes(...)`` describes, unless they are there.

    A first argument ``varied`` means those of ``VariedScenes(...)``, ``rooms`` is the default.
    """
    source: type[WrittenScenes] = GeneratedScenes
    program = "mvsplat scenes"
    if argv and argv[0] in SOURCES:
        source, program = SOURCES[argv[0]], f"{program} {argv[0]}"
        argv = argv[1:]
    parser = CommandParser(
        prog=program,
        description="Write generated scenes in the RE10K chunk layout: `mvsplat scenes` furnished "
        "rooms, `mvsplat scenes varied` scenes of many kinds, as the packaged weights learn from.",
    )
    parser.add_class_arguments(source, as_group=False)
    source(**parser.parse_args(argv).as_dict()).prepare()
