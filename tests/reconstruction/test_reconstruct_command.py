"""``mvsplat reconstruct``, run as a user does, on photographs of a generated room."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from mvsplat.cli.commands import reconstruct as command
from mvsplat.export import load_cameras, load_ply, load_splat, save_video
from mvsplat.export.cameras import cameras_of


@pytest.fixture
def reconstruct(program, checkpoint, tmp_path, quick):
    def call(source, *options):
        return program(
            "reconstruct", source, "--checkpoint", checkpoint, "--output", tmp_path / "scene",
            "--refine", "off", "--refine_size", 128, *options, config=False,
        )  # fmt: skip

    call.folder = tmp_path / "scene"
    return call


def test_photos_with_cameras(reconstruct, posed, program):
    assert reconstruct(posed, "--photos", "2", "--held_out", "2") == 0, program.err
    names = {path.name for path in reconstruct.folder.iterdir()}
    assert names == {"photos", "depth", "scene.ply", "cameras.json", "scores.json", "video.mp4",
                     "report.html"}  # fmt: skip
    assert len(load_cameras(reconstruct.folder / "cameras.json").frames) == 4
    assert "2 photos held out, at 128 x 96: PSNR" in program.out
    assert "Writing the splat" in program.err


@pytest.mark.skipif(find_spec("pycolmap") is None, reason="pycolmap is not installed")
def test_photos_without_cameras_and_one_that_is_none(reconstruct, photos, program, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "diary.jpg").write_text("dear diary")
    assert reconstruct(folder) == 0, program.err
    assert "left out: diary.jpg: not a picture" in program.out
    model = reconstruct.folder / "colmap"
    assert (model / "sparse/0/cameras.bin").is_file() and len(list(model.glob("images/*"))) == 8
    # What was estimated is an input of its own.
    assert program("reconstruct", model, "--checkpoint", str(tmp_path / "no"), "--output",
                   tmp_path / "again", config=False) == 2  # fmt: skip
    assert "no checkpoint" in program.err


@pytest.mark.skipif(find_spec("pycolmap") is None, reason="pycolmap is not installed")
def test_a_video(reconstruct, room, program, tmp_path):
    frames = (room.image(index) for index in range(len(room)) for _ in range(3))
    save_video(frames, tmp_path / "walk.mp4", quality=10)
    assert reconstruct(tmp_path / "walk.mp4", "--frames", "8") == 0, program.err
    assert (reconstruct.folder / "scene.ply").is_file()


def test_nothing_is_overwritten_unasked(reconstruct, two_posed, program):
    assert reconstruct(two_posed) == 0, program.err
    before = (reconstruct.folder / "scene.ply").read_bytes()
    assert reconstruct(two_posed, "--near", "0.5") == 2
    assert "--overwrite" in program.err
    assert (reconstruct.folder / "scene.ply").read_bytes() == before
    assert reconstruct(two_posed, "--near", "0.5", "--overwrite") == 0, program.err
    assert (reconstruct.folder / "scene.ply").read_bytes() != before


def test_the_output_is_not_the_input(reconstruct, two_posed, program):
    assert reconstruct(two_posed) == 0
    inside = reconstruct.folder / "photos"
    assert reconstruct(inside, "--overwrite") == 2
    assert "holds the input" in program.err and any(inside.iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--views", "1"], "at least 2"),
        (["--views", "few"], "views"),
        (["--wievs", "2"], "did you mean views"),
        (["--refine", "on"], "refine"),
        (["--photos", "3"], "photos is 3, but only 2 have cameras"),
        (["--size", "50"], "multiples of"),
        (["--precision", "fp8"], "precision: Expected"),
    ],
)
def test_bad_options_are_short_errors(reconstruct, two_posed, program, options, message):
    assert reconstruct(two_posed, *options) == 2
    assert message in program.err and len(program.err.splitlines()) <= 12
    assert "Traceback" not in program.err and not reconstruct.folder.exists()


def test_an_output_that_cannot_be_written_is_noticed_at_once(program, checkpoint, two_posed):
    start = time.monotonic()
    code = program("reconstruct", two_posed, "--checkpoint", checkpoint,
                   "--output", "/proc/scene", config=False)  # fmt: skip
    assert code == 2 and "cannot be written to" in program.err
    assert "Loading" not in program.err and time.monotonic() - start < 20


def test_an_interruption_says_what_is_whole(reconstruct, two_posed, program, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mvsplat.reconstruction.pipeline.predict_all", interrupt)
        assert reconstruct(two_posed) == 130
        assert "interrupted: nothing was written" in program.err
    with monkeypatch.context() as patch:
        patch.setattr("mvsplat.reconstruction.saving.save_video", interrupt)
        assert reconstruct(two_posed) == 130
    assert "INCOMPLETE.txt says so" in program.err and "scene.ply" in program.err
    assert (reconstruct.folder / "INCOMPLETE.txt").is_file()


def test_a_process_that_is_killed_leaves_no_result_that_looks_whole(
    two_posed, checkpoint, tmp_path
):
    folder = tmp_path / "scene"
    code = (
        "import os, signal, sys\n"
        "import mvsplat.reconstruction.saving as saving\n"
        "saving.save_video = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from mvsplat.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["reconstruct", str(two_posed), "--checkpoint", str(checkpoint), "--refine=off"]
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--output", str(folder)],
        capture_output=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # which nobody cleans up after
    )
    assert process.returncode == -signal.SIGKILL
    names = {path.name for path in folder.iterdir()}
    assert {"INCOMPLETE.txt", "scene.ply"} <= names and "report.html" not in names
    load_ply(folder / "scene.ply")


@pytest.mark.parametrize("answer, shown", [("y", True), ("", False)])
def test_it_offers_to_show_the_scene_to_a_person(
    reconstruct, two_posed, program, monkeypatch, answer, shown
):
    calls = []
    monkeypatch.setattr("mvsplat.cli.commands.view.main", calls.append)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert reconstruct(two_posed) == 0, program.err
    assert bool(calls) == shown
    if shown:
        assert calls[0][0] == str(reconstruct.folder)


def test_open_shows_it_without_asking(reconstruct, two_posed, monkeypatch):
    calls = []
    monkeypatch.setattr("mvsplat.cli.commands.view.main", calls.append)
    assert reconstruct(two_posed, "--open") == 0 and len(calls) == 1


@pytest.mark.parametrize("precision", ["auto", "32", "bf16"])
def test_precisions_are_named_as_they_are_written(precision):
    arguments = ["photos", "--output", "scene", "--precision", precision]
    assert command._parser().parse_args(arguments).precision == precision


def test_help_explains_the_options(program):
    assert program("reconstruct", "--help", config=False) == 0
    words = "--checkpoint --photos --held_out --refine --refine_steps --size --overwrite --open"
    for word in [*words.split(), "report.html"]:
        assert word in program.out


@pytest.mark.parametrize("suffix", [".spz", ".html"])
def test_an_output_named_like_a_splat_is_one_file(program, checkpoint, two_posed, tmp_path, suffix):
    target = tmp_path / "out" / f"door{suffix}"
    call = ["reconstruct", two_posed, "--checkpoint", checkpoint, "--output", target,
            "--refine", "off", "--refine_size", 128]  # fmt: skip
    assert program(*call, "--splat", "ply", config=False) == 2
    assert "--splat ply is for folders" in program.err and not target.parent.exists()
    assert program(*call, config=False) == 0, program.err
    beside = set() if suffix == ".html" else {"cameras.json"}
    assert {path.name for path in target.parent.iterdir()} == {target.name} | beside
    assert load_splat(target).means.shape[1] > 0
    assert len(load_cameras(cameras_of(target)).frames) == 2
    assert program(*call, config=False) == 2 and "--overwrite replaces it" in program.err


def test_the_folder_s_splat_can_be_of_any_format(reconstruct, two_posed, program):
    assert reconstruct(two_posed, "--splat", "html") == 2
    assert "scene.html holds cameras and photos itself" in program.err
    assert reconstruct(two_posed, "--splat", "ksplat") == 2 and "are not written" in program.err
    assert not reconstruct.folder.exists()
    for suffix, name in (("spz", "scene.spz"), (".compressed.ply", "scene.compressed.ply")):
        assert reconstruct(two_posed, "--splat", suffix, "--overwrite") == 0, program.err
        assert {path.name for path in reconstruct.folder.glob("scene.*")} == {name}
        assert len(load_cameras(cameras_of(reconstruct.folder / name)).frames) == 2
        assert load_splat(reconstruct.folder / name).means.shape[1] > 0
