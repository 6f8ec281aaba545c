"""``weights``: what goes by a name as weights, and fetching it."""

import json
import sys

from rich.console import Console
from rich.table import Table

from mvsplat.cli.errors import CommandParser
from mvsplat.weights.downloading import cache_folder
from mvsplat.weights.known import KnownWeights, known_weights
from mvsplat.weights.locating import fetch

DESCRIPTION = """\
List the weights that go by a name: --checkpoint of reconstruct, --model.weights of fit, validate,
test and predict, and mvsplat.load_model take it, or a file, https://... or
hf://owner/repository/file. They are downloaded on first use. Sizes that begin with ~ follow from
the number of parameters; what is said of released weights is what their pages say, and none of them
has been tried with this package.
"""


def main(argv: list[str]) -> None:
    """List known weights, or bring some here."""
    parser = CommandParser(prog="mvsplat weights", description=DESCRIPTION)
    parser.add_argument(
        "names", type=str, nargs="*", help="Download these, if need be, and say where they are."
    )
    parser.add_argument("--json", action="store_true", help="Print the list as JSON.")
    arguments = parser.parse_args(argv)
    chosen = [_known(name) for name in arguments.names]
    for weights in chosen:
        print(fetch(weights))
    if chosen:
        return
    rows = [_row(weights) for weights in known_weights().values()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        _show(rows)


def _known(name: str) -> KnownWeights:
    names = known_weights()
    if name not in names:
        raise ValueError(f"no weights are called {name!r}; known: {', '.join(names)}")
    return names[name]


def _row(weights: KnownWeights) -> dict[str, str]:
    here = weights.place.is_file()
    size, shape = weights.size, weights.image_shape
    if here:
        size = f"{weights.place.stat().st_size / 1e6:.1f} MB"
    return {
        "name": weights.name,
        "trained on": weights.trained_on + (" (depth only)" if weights.of_depth else ""),
        "views": weights.views,
        "pixels": f"{shape[0]}x{shape[1]}" if shape else "several",
        "licence": weights.licence,
        "size": size,
        "here": "yes" if here else "no",
        "file": str(weights.place) if here or not weights.file else _published(weights),
    }


def _published(weights: KnownWeights) -> str:
    assert weights.file is not None
    return f"hf://{weights.file.repository}/{weights.file.file}"


def _show(rows: list[dict[str, str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        if name != "file":
            table.add_column(name, no_wrap=name == "name", overflow="fold")
    for row in rows:
        table.add_row(*(value for name, value in row.items() if name != "file"))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print(f"\nDownloaded to {cache_folder()} (MVSPLAT_CACHE names another folder).")
