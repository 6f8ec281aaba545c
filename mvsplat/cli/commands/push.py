"""``push``: weights to hand on, with what they are good for, to the Hub or to a file."""

import tempfile
from pathlib import Path
from typing import Any, Literal

import yaml

from mvsplat.cli.errors import CommandParser
from mvsplat.evaluation.results_files import load_results
from mvsplat.training.run_folder import find_checkpoint
from mvsplat.weights.file_content import load_content
from mvsplat.weights.hub import SCHEME, HubFile, endpoint, parse, token
from mvsplat.weights.model_card import model_card
from mvsplat.weights.packing import SUFFIXES, pack

DESCRIPTION = """\
Write a run's weights in half precision, with its settings and scores, to a file (.safetensors or
.ckpt) or, with a model card, to a repository of the Hugging Face Hub, which is made if need be.
Every command takes the result as weights. Uploading needs huggingface_hub
(pip install 'mvsplat[hub]') and a token that may write (HF_TOKEN, or hf auth login).
"""


def push(
    run: str,
    target: str,
    which: Literal["last", "best"] = "last",
    good_for: str | None = None,
    licence: str | None = None,
    private: bool = False,
) -> None:
    """Hand on the weights of a run.

    Args:
        run: A run folder, or one checkpoint.
        target: ``hf://owner/name``, or a file that ends in .safetensors or .ckpt.
        which: The checkpoint of a run folder.
        good_for: What the weights are good for, in a phrase, which is shown wherever they are
            used; null says what they were trained on, and their score.
        licence: The weights' licence, for the card, by the Hub's name for it, such as mit.
        private: Make the repository, if there is none, a private one.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
        ValueError: The target has another form, or the checkpoint does not describe its model.
        ConnectionError: The Hub refuses.
    """
    place = parse(target) if target.startswith(SCHEME) else None
    name = target if place is None else place.file
    if Path(name).suffix not in SUFFIXES:
        raise ValueError(f"{target} is neither hf://owner/name nor a file ending in {SUFFIXES}")
    folder = Path(run)
    checkpoint = find_checkpoint(folder, which) if folder.is_dir() else folder
    if not checkpoint.is_file():
        raise FileNotFoundError(f"there is no run or checkpoint {run}")
    about = describe_run(folder if folder.is_dir() else folder.parent.parent, checkpoint)
    about["good_for"] = good_for or _in_short(about)
    if place is None:
        pack(checkpoint, Path(target), about)
    else:
        api = _hub()
        with tempfile.TemporaryDirectory(prefix="mvsplat-push-") as work:
            pack(checkpoint, Path(work) / place.file, about)
            (Path(work) / "README.md").write_text(model_card(about, place, licence))
            _upload(api, Path(work), place, private)


def describe_run(run: Path, checkpoint: Path) -> dict[str, Any]:
    """What a run's folder tells of its weights: settings, steps and, where it was tested, scores.

    Raises:
        ValueError: The checkpoint or the scores are damaged.
    """
    about: dict[str, Any] = {}
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        about["configuration"] = run.resolve().name
        source = config["data"]["source"]
        about["seed"] = config.get("seed_everything")
        about["trained_on"] = source["class_path"].rpartition(".")[2]
        about["context_views"] = config["data"]["train_views"]["init_args"].get("context_views", 2)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        pass  # a checkpoint that was moved out of its run
    if steps := load_content(checkpoint).get("global_step"):
        about["steps"] = steps
    try:
        results = load_results(run)
    except FileNotFoundError:
        return about
    about["test_scenes"] = len(results.scenes)
    about["scores"] = results.mean
    return about


def _in_short(about: dict[str, Any]) -> str:
    parts = [f"trained on {about['trained_on']}"] if "trained_on" in about else []
    if "steps" in about:
        parts.append(f"{about['steps']:,} steps")
    if psnr := about.get("scores", {}).get("model", {}).get("psnr"):
        parts.append(f"{psnr:.2f} dB on {about['test_scenes']} test scenes")
    return ", ".join(parts)


def _hub() -> Any:
    """The Hub's interface.

    Raises:
        RuntimeError: Its library is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise RuntimeError(
            "pushing to the Hub needs huggingface_hub: pip install 'mvsplat[hub]'"
        ) from error
    return HfApi(endpoint=endpoint(), token=token())


def _upload(api: Any, folder: Path, place: HubFile, private: bool) -> None:
    try:
        api.create_repo(place.repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=place.repository,
            folder_path=folder,
            revision=place.revision,
            commit_message=f"Weights of mvsplat: {place.file}",
        )
    except Exception as error:  # the library's own kinds, and those of what it speaks HTTP with
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"cannot upload to {place.repository} at {endpoint()}: {first}. A token that may write "
            "there is needed: HF_TOKEN, or hf auth login"
        ) from error


def main(argv: list[str]) -> None:
    """Hand on what the arguments name."""
    parser = CommandParser(prog="mvsplat push", description=DESCRIPTION)
    parser.add_function_arguments(push, as_group=False, as_positional=True)
    options = parser.parse_args(argv).as_dict()
    push(**options)
    target = options["target"]
    print(f"{target}: written; use it as --checkpoint {target} or --model.weights {target}")
