"""When kernels' machine code on disk is out of date."""

from mvsplat import kernels


def test_a_kernel_depends_on_what_it_imports_from_near_and_far(tmp_path, monkeypatch):
    """Helpers are inlined and constants folded in: also through another module, in any style."""
    package = tmp_path / "somewhere" / "package"
    near, far = package / "near", package / "far"
    near.mkdir(parents=True)
    far.mkdir()
    (near / "kernel.py").write_text(
        f"import math\nfrom {kernels._PACKAGE.name}.far import helper as h, other\n"
        f"from {kernels._PACKAGE.name}.far.constants import (\n    ONE,\n    TWO,\n)\n"
    )
    (far / "helper.py").write_text(f"from {kernels._PACKAGE.name}.near.deep import THREE\n")
    for file in (far / "constants.py", near / "deep.py", near / "unrelated.py"):
        file.write_text("")
    monkeypatch.setattr(kernels, "_PACKAGE", package)

    def digest() -> str:
        kernels._sources.cache_clear()
        kernels._imported.cache_clear()
        return kernels._sources(near / "kernel.py")

    for name, matters in (
        ("near/kernel.py", True),
        ("far/helper.py", True),
        ("far/constants.py", True),
        ("near/deep.py", True),
        ("near/unrelated.py", False),
    ):
        before = digest()
        file = package / name
        file.write_text(file.read_text() + "FOUR = 4\n")
        assert (digest() != before) == matters, name
    kernels._sources.cache_clear()
    kernels._imported.cache_clear()


def test_kernels_of_refinement_depend_on_the_rasterizers():
    package = kernels._PACKAGE
    found = kernels._imported(package / "refinement" / "cpu" / "update_seen.py")
    assert package / "decoder" / "cpu" / "footprint.py" in found
