"""``scenes``: write the generated scenes, so that they can be looked at or used elsewhere."""

from mvsplat.cli.errors import CommandParser
from mvsplat.data.generated.generated_scenes import GeneratedScenes


def main(argv: list[str]) -> None:
    """Write the scenes that ``GeneratedScenes(...)`` describes, unless they are there."""
    parser = CommandParser(
        prog="mvsplat scenes", description="Write generated scenes in the RE10K chunk layout."
    )
    parser.add_class_arguments(GeneratedScenes, as_group=False)
    GeneratedScenes(**parser.parse_args(argv).as_dict()).prepare()
