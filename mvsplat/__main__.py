"""The program: ``python -m mvsplat COMMAND ...``, also installed as ``mvsplat``."""

import os
import re
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from mvsplat import __version__

TRAINER_COMMANDS = {
    "fit": "train a model",
    "validate": "measure a checkpoint on the validation scenes",
    "test": "measure a checkpoint on every test scene: table, scores.json, pictures",
    "predict": "write every scene: its Gaussians, a film, depth maps",
}
COMMANDS: dict[str, str] = {
    "reconstruct": "a folder of photos, a video or a COLMAP model to a scene: splat, video, report",
    "refine": "a splat of any origin, optimised on photos with cameras",
    "view": "walk around in a splat or in a run's results, in the browser",
    "export": "a splat into another format, merged, cut to size, turned; with the loss",
    "compare": "the results of two or more runs, scene by scene",
    "scenes": "write generated scenes to train, test and try things on",
    "convert": "write data of any kind as chunks to train and test on",
    "verify": "check a converted or downloaded data set",
    "index": "choose a data set's context and target views for evaluation",
    "weights": "the weights that go by a name; small comes with the package",
    "push": "hand on a run's weights: to a file or to the Hugging Face Hub, with a model card",
    "doctor": "check this installation: versions, devices, rasterizers, weights",
}

REMOVED = {
    "import-checkpoint": "released checkpoints need no conversion: --model.weights FILE of fit, "
    "validate, test and predict takes them, --checkpoint FILE of reconstruct, and "
    "mvsplat.load_model(FILE); what it wrote still loads",
}


_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")


def usage() -> str:
    """The text of ``--help``: every command in a line."""
    rows = [f"  {name:<19}{text}" for name, text in (TRAINER_COMMANDS | COMMANDS).items()]
    return "\n".join(
        [
            "usage: mvsplat COMMAND [--config NAME_OR_FILE] [options]",
            "",
            "Feed-forward 3-D Gaussian splatting: posed photographs in, a scene out.",
            "",
            *rows,
            "",
            "  mvsplat COMMAND --help lists a command's options, --print_config what they come to.",
            "  mvsplat --version",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code. ``argv`` defaults to the process's arguments."""
    if argv is None:
        _look_into_working_directory()
        argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"mvsplat {__version__}")
        return 0
    if argv[0] in REMOVED:
        return _fail(f"{argv[0]} is gone: {REMOVED[argv[0]]}")
    if argv[0] not in TRAINER_COMMANDS | COMMANDS:
        return _fail(_unknown(argv[0]))
    try:
        if argv[0] in TRAINER_COMMANDS:
            from mvsplat.cli.trainer_commands import main as run
            from mvsplat.machine import keep_freed_memory

            keep_freed_memory()
            run(argv)
        else:
            module = argv[0].replace("-", "_")
            import_module(f"mvsplat.cli.commands.{module}").main(argv[1:])
    except (ValueError, OSError, RuntimeError) as error:
        message = _for_the_user(error)
        if os.environ.get("MVSPLAT_TRACEBACK") or message is None:
            raise
        return _fail(message)
    return 0


def _look_into_working_directory() -> None:
    """Let the script find a user's modules, as ``python -m`` does, but after all that is installed.

    Loader workers and the other processes of a run inherit or repeat this.
    """
    try:
        folder = os.getcwd()
    except OSError:  # it has been deleted
        return
    safe = getattr(sys.flags, "safe_path", False)  # python -P: `python -m` would not look, either
    if not safe and folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _unknown(name: str) -> str:
    names = [*TRAINER_COMMANDS, *COMMANDS]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no command {name!r}; {hint}Commands: {', '.join(names)}"


def _for_the_user(error: BaseException) -> str | None:
    """The message, if a ``raise`` of our own code made it, rather than a stumble over something."""
    while str(error).startswith("Does not validate against any of the Union") and error.__cause__:
        error = error.__cause__  # jsonargparse's words around what a constructor says
    message = str(error)
    sources = [
        (frame.filename, frame.line or "") for frame in traceback.extract_tb(error.__traceback__)
    ]
    if _LOST_WORKER.match(message):  # torch says so wherever this process is just then
        return (
            f"{message.strip(' .')}: the system does that when memory runs out. Fewer workers "
            "(--data.train_loader.num_workers and so on) need less. --ckpt_path last goes on with "
            "a training"
        )
    if "in DataLoader worker process" in message:
        # torch raises a worker's error again, with the worker's traceback as text before it.
        sources = re.findall(r'^  File "([^"]+)", .*\n +(.*)', message, flags=re.MULTILINE)
        message = re.split(rf"^{type(error).__name__}: ", message, flags=re.MULTILINE)[-1]
    if not sources:
        return None
    file, line = sources[-1]
    ours = Path(file).is_relative_to(Path(__file__).parent) and line.startswith("raise")
    return message if ours else None


def _fail(message: str) -> int:
    lines = [line for line in message.splitlines() if line.strip()][:5]
    print("error: " + "\n".join(lines), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
