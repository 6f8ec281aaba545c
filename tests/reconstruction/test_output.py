"""What may be written where, and what is left when it cannot be."""

import pytest

from mvsplat.reconstruction.output import CAMERAS, MARKER, REPORT, SPLAT, OutputFolder


def filled(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_text(name)
    return path


def test_a_new_folder_is_created_and_marked_until_it_is_complete(tmp_path):
    output = OutputFolder(tmp_path / "deep" / "er")
    output.begin()
    assert (output.path / MARKER).is_file()
    output.finish()
    assert list(output.path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    folder = filled(tmp_path / "a", "thesis.tex")
    with pytest.raises(ValueError, match="thesis.tex"):
        OutputFolder(folder)
    with pytest.raises(ValueError, match="no earlier reconstruction"):
        OutputFolder(folder, overwrite=True)


def test_a_splat_of_someone_else_is_not_an_earlier_reconstruction(tmp_path):
    with pytest.raises(ValueError, match="no earlier reconstruction"):
        OutputFolder(filled(tmp_path / "a", SPLAT, "photos.zip"), overwrite=True)


def test_overwriting_replaces_our_files_and_leaves_others(tmp_path):
    folder = filled(tmp_path / "a", SPLAT, CAMERAS, REPORT, "notes.txt")
    (folder / "depth").mkdir()
    with pytest.raises(ValueError, match="--overwrite"):
        OutputFolder(folder)
    output = OutputFolder(folder, overwrite=True)
    output.begin()
    output.remove_earlier()
    assert sorted(p.name for p in folder.iterdir()) == [MARKER, "notes.txt", SPLAT]


def test_an_incomplete_one_can_be_overwritten(tmp_path):
    OutputFolder(filled(tmp_path / "a", MARKER), overwrite=True)


def test_giving_up_leaves_what_was_there(tmp_path):
    new = OutputFolder(tmp_path / "x" / "y")
    new.begin()
    new.give_up()
    assert not (tmp_path / "x").exists()
    old = OutputFolder(filled(tmp_path / "a", SPLAT, CAMERAS, REPORT), overwrite=True)
    old.begin()
    old.give_up()
    assert sorted(p.name for p in old.path.iterdir()) == [CAMERAS, REPORT, SPLAT]


def test_a_file_and_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        OutputFolder(tmp_path / "file")
    with pytest.raises(OSError, match="cannot be written to"):
        OutputFolder("/proc/nowhere/scene")
    with pytest.raises(OSError, match="cannot be written to"):
        OutputFolder(tmp_path / "file" / "below")
