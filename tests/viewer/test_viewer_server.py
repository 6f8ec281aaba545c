"""Starting the viewer: what cannot be served is refused before there is a page."""

import re
import socket
import sys
import urllib.request

import pytest
from viewer_scenes import make_gaussians, write_run

from mvsplat.__main__ import main
from mvsplat.export import save_ply
from mvsplat.viewer import Viewer


@pytest.fixture
def splat(tmp_path):
    save_ply(make_gaussians(0), tmp_path / "splat.ply")
    return tmp_path / "splat.ply"


def run(capsys, *arguments) -> tuple[int, str, str]:
    try:
        code = main(["view", *map(str, arguments)])
    except SystemExit as exit:
        code = exit.code
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_serves_a_page_and_opens_it(splat, capsys, monkeypatch):
    pytest.importorskip("viser")
    opened, pages = [], []

    def wait(viewer: Viewer) -> None:
        with urllib.request.urlopen(viewer.url) as answer:
            pages.append(answer.read())

    monkeypatch.setattr(Viewer, "wait", wait)
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, out, err = run(capsys, splat, "--port", 0)
    assert code == 0 and err == ""
    assert (
        out.startswith(f"The viewer is at {opened[0]} (Ctrl-C ends it)")
        and len(out.splitlines()) == 1
    )
    assert opened[0].startswith("http://127.0.0.1:")
    assert run(capsys, splat, "--port", 0, "--no-open")[0] == 0
    assert len(opened) == 1 and len(pages) == 2 and b"<html" in pages[0]


def test_a_port_in_use_is_named(splat, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = run(capsys, splat, "--no-open", "--port", port)
    assert code == 2 and f"cannot listen at 127.0.0.1, port {port}" in err and "--port 0" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "port 70000: expected 1 to 65535, or 0 for a free one"),
        (["--port", "web"], "port: Expected a int. Got value: web"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(splat, capsys, arguments, message):
    code, _, err = run(capsys, splat, "--no-open", *arguments)
    assert code == 2 and message in err and len(err.splitlines()) <= 5


def test_missing_damaged_and_empty_files_are_named(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "nothing.ply")
    assert code == 2 and "no file or folder at" in err and "nothing.ply" in err
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    code, _, err = run(capsys, tmp_path / "broken.ply")
    assert code == 2 and "broken.ply is damaged, or no PLY file" in err
    save_ply(make_gaussians(0, count=0), tmp_path / "empty.ply")
    code, _, err = run(capsys, tmp_path / "empty.ply")
    assert code == 2 and "empty.ply has no Gaussians to show" in err
    assert run(capsys)[0] == 2


def test_what_a_file_stores_can_be_said(splat, capsys, monkeypatch):
    pytest.importorskip("viser")
    monkeypatch.setattr(Viewer, "wait", lambda viewer: None)
    for value in ("false", "null"):
        code = run(capsys, splat, "--no-open", "--port", 0, "--activated", value)[0]
        assert code == 0
    code, _, err = run(capsys, splat, "--no-open", "--port", 0, "--activated", "true")
    assert code == 2 and "splat.ply is said to be activated, but opacities go from" in err


def test_one_unreadable_splat_hides_no_other(tmp_path, capsys, monkeypatch, caplog):
    pytest.importorskip("viser")
    scenes = []
    monkeypatch.setattr(Viewer, "wait", lambda viewer: scenes.extend(viewer._items))
    run_folder = write_run(tmp_path / "run", {"a": 1, "b": 2, "c": 3})
    predictions = run_folder / "predictions"
    save_ply(make_gaussians(0, count=0), predictions / "a.ply")
    (predictions / "b.ply").write_bytes(b"ply\n")
    (predictions / "c.cameras.json").write_text('[{"img_name": "3DGS writes such a file, too"}]')
    (predictions / "d.splat").write_bytes(bytes(321))
    code, _, err = run(capsys, run_folder, "--no-open", "--port", 0)
    assert code == 0 and [item.scene for item in scenes] == ["c"]
    for problem in (
        "left out: .*a.ply has no Gaussians",
        "left out: .*b.ply is damaged",
        "c.ply is shown without cameras: .*c.cameras.json",
        "left out: .*d.splat is damaged",
    ):
        assert re.search(problem, caplog.text)
    (predictions / "c.ply").unlink()
    code, _, err = run(capsys, run_folder, "--no-open", "--port", 0)
    assert code == 2 and "a.ply has no Gaussians to show" in err


def test_a_missing_viser_is_explained(splat, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    code, _, err = run(capsys, splat, "--no-open", "--port", 0)
    assert code == 2 and "pip install 'mvsplat[view]'" in err
