"""``doctor``: a healthy installation, and every way of being broken that can be staged."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mvsplat import SplattingDecoder
from mvsplat.__main__ import main
from mvsplat.cli.commands.doctor import diagnose
from mvsplat.cli.commands.push import push
from mvsplat.decoder import gsplat_engine
from mvsplat.doctor import Finding, examine, known_splat, machine, rasterizers, software, weights
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.weights import known


def find(findings, subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty hub cache of PyTorch."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def test_a_healthy_installation(hub, capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("torch", torch.__version__, "engine cpu", "kernel cache", "LPIPS vgg", "viser"):
        assert word in out
    assert "Everything that must work does." in out and "problem" not in out


def test_json(hub, capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {f["verdict"] for f in found} <= {"ok", "note"}
    sections = list(dict.fromkeys(f["section"] for f in found))
    assert sections == ["software", "machine", "rasterizers", "weights", "optional packages"]
    engine = next(f for f in found if f["subject"] == "engine cpu")
    assert engine["text"].startswith("0 % of a known splat's pixels differ")


def test_a_problem_ends_in_exit_code_1_and_says_what_to_do(monkeypatch, capsys):
    def findings(build):
        yield "software", Finding("torch", "ok", "9.9")
        yield "software", Finding("numba", "problem", "not installed", "pip install numba")

    monkeypatch.setattr("mvsplat.cli.commands.doctor.diagnose", findings)
    with pytest.raises(SystemExit) as exit:
        main(["doctor"])
    assert exit.value.code == 1
    out = capsys.readouterr().out
    assert "-> pip install numba" in out and "1 problem." in out
    with pytest.raises(SystemExit) as exit:
        main(["doctor", "--json"])
    assert exit.value.code == 1


def test_a_check_that_stumbles_is_a_problem():
    def check():
        yield Finding("a", "ok", "fine")
        raise KeyError("oh")

    first, second = examine("subject", check)
    assert first.verdict == "ok"
    assert second.subject == "subject" and second.verdict == "problem" and "oh" in second.text


def test_broken_torch_is_reported_without_a_traceback(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: wrong ELF class')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "mvsplat", "doctor"]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "cannot be imported: libtorch_cpu.so: wrong ELF class" in run.stdout
    assert "--force-reinstall 'torch" in run.stdout


def requirements(monkeypatch, *lines: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: list(lines))


def test_requirements_that_are_not_met(monkeypatch):
    requirements(
        monkeypatch, "torch>=99", "no-such-package[extra]>=1", "einops", "x; extra == 'view'"
    )
    found = list(software.packages())
    torch_, missing = find(found, "torch"), find(found, "no-such-package")
    assert torch_.verdict == missing.verdict == "problem"
    assert torch_.text == f"{torch.__version__} found, expected >=99"
    assert torch_.advice == "pip install 'torch>=99'"
    assert missing.advice == "pip install 'no-such-package[extra]>=1'"
    assert find(found, "others").text.startswith("1 more")
    assert not any(finding.subject == "x" for finding in found)


def test_a_library_that_cannot_be_loaded(monkeypatch):
    def import_module(name):
        raise OSError("libavcodec.so.60: cannot open shared object file")

    requirements(monkeypatch, "av>=12")
    monkeypatch.setattr(software, "import_module", import_module)
    finding = find(software.packages(), "av")
    assert finding.verdict == "problem" and "libavcodec" in finding.text
    assert "--force-reinstall" in finding.advice


def test_not_installed(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    (finding,) = software.packages()
    assert finding.verdict == "note" and "pip install ." in finding.advice


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(software.platform, "python_version", lambda: "3.8.1")
    finding = find(software.packages(), "python")
    assert finding.verdict == "problem" and "expected >=3.1" in finding.text


def test_extras(monkeypatch):
    requirements(
        monkeypatch, "torch", "viser>=99; extra == 'view'", "pycolmap>=1; extra == 'photos'"
    )
    monkeypatch.setattr(software, "EXTRAS", software.EXTRAS | {"extra": ("no_such", "flying")})
    found = {finding.subject: finding for finding in software.extras()}
    assert set(found) == {"viser", "pycolmap", "huggingface_hub", "no_such"}
    assert found["viser"].verdict == "problem" and "expected >=99" in found["viser"].text
    missing = found["no_such"]
    assert missing.verdict == "note" and missing.text == "not installed: flying"
    assert missing.advice == "pip install 'mvsplat[extra]'"


def test_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for cores, verdict in ((torch.get_num_threads(), "ok"), (1000, "note"), (0, "note")):
        monkeypatch.setattr(machine, "usable_cores", lambda cores=cores: cores)
        assert find(machine.processor(), "threads").verdict == verdict


@pytest.mark.parametrize(
    "features, verdict, word",
    [
        ({"avx2": True, "fma": True, "amx-bf16": True}, "ok", "amx-bf16"),
        ({"avx2": True, "avx512bf16": False}, "note", "bf16: none"),
        ({}, "note", "vectors: none"),
        ({"neon": True, "bf16": True}, "ok", "neon"),
    ],
)
def test_instructions(monkeypatch, features: dict, verdict: str, word: str):
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    finding = find(machine.processor(), "instructions")
    assert finding.verdict == verdict and word in finding.text


@pytest.mark.parametrize(
    "cuda, driver, verdict, word",
    [
        (None, False, "ok", "no NVIDIA GPU"),
        (None, True, "note", "has no CUDA"),
        ("12.4", True, "note", "finds no GPU"),
    ],
)
def test_without_a_cuda_device(monkeypatch, tmp_path, cuda, driver: bool, verdict: str, word: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", tmp_path / "version")
    if driver:
        machine.NVIDIA_DRIVER.touch()
    (finding,) = machine.devices()
    assert finding.verdict == verdict and word in finding.text
    assert bool(finding.advice) == (verdict != "ok")


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: setattr(r, "color", r.color * 1.1),
        lambda r: setattr(r, "depth", r.depth * 1.1),
        lambda r: setattr(r, "color", r.color.flip(-1)),
        lambda r: setattr(r, "alpha", r.alpha * torch.nan),
    ],
    ids=["bright", "far", "mirrored", "NaN"],
)
def test_an_engine_that_draws_wrongly(monkeypatch, damage):
    render = SplattingDecoder.forward

    def damaged(*arguments):
        rendering = render(*arguments)
        damage(rendering)
        return rendering

    monkeypatch.setattr(SplattingDecoder, "forward", damaged)
    finding = find(rasterizers.cpu(), "engine cpu")
    assert finding.verdict == "problem" and "do not trust" in finding.advice


def test_an_engine_with_wrong_gradients(monkeypatch):
    render = SplattingDecoder.forward

    def damaged(self, gaussians, *rest):
        gaussians.means = gaussians.means.detach() + 0 * gaussians.means
        return render(self, gaussians, *rest)

    monkeypatch.setattr(SplattingDecoder, "forward", damaged)
    assert find(rasterizers.cpu(), "engine cpu").verdict == "problem"


def test_an_engine_that_raises(monkeypatch):
    def forward(*arguments):
        raise RuntimeError("LLVM ERROR\n  install another")

    monkeypatch.setattr(SplattingDecoder, "forward", forward)
    finding = find(rasterizers.cpu(), "engine cpu")
    assert finding.verdict == "problem" and finding.text == "RuntimeError: LLVM ERROR"
    assert finding.advice == "install another"


def test_kernel_cache_in_no_writable_folder(monkeypatch):
    monkeypatch.setattr("mvsplat.kernels.cache_folder", lambda kernel: None)
    finding = find(rasterizers.cpu(), "kernel cache")
    assert finding.verdict == "note" and "NUMBA_CACHE_DIR" in finding.advice


@pytest.fixture
def pretended_cuda(monkeypatch, tmp_path):
    """A CUDA device, as far as the checks ask; no extension of gsplat yet."""
    facts = SimpleNamespace(name="Pretended 1000", total_memory=8 * 2**30, major=8, minor=6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: facts)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    return tmp_path


def test_a_cuda_device(pretended_cuda):
    (finding,) = machine.devices()
    assert finding.subject == "cuda:0" and "Pretended 1000, 8 GiB" in finding.text


def test_gsplat_is_not_built_unasked(pretended_cuda, monkeypatch):
    def load():
        raise AssertionError("must not be loaded")

    monkeypatch.setattr(gsplat_engine, "load_gsplat", load)
    monkeypatch.setattr(gsplat_engine, "toolchain", lambda: ("release 12.4", "c++ 12.2"))
    (finding,) = rasterizers.gsplat(build=False)
    assert finding.verdict == "note" and "--build" in finding.advice
    assert "release 12.4" in finding.text and "c++ 12.2" in finding.text


def test_gsplat_without_a_compiler(pretended_cuda, monkeypatch):
    monkeypatch.setattr(gsplat_engine, "toolchain", lambda: (gsplat_engine.MISSING, "c++ 12.2"))
    (finding,) = rasterizers.gsplat(build=False)
    assert finding.verdict == "problem" and "Install a CUDA toolkit" in finding.advice


def test_gsplat_whose_build_fails(pretended_cuda, monkeypatch):
    def load(device):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # which fails the soonest
        return gsplat_engine.load_gsplat()

    monkeypatch.setattr(gsplat_engine, "gsplat_for", load)
    monkeypatch.setattr(known_splat, "draw", lambda engine, device: load(device))
    (finding,) = rasterizers.gsplat(build=True)
    assert finding.verdict == "problem" and "torch finds no CUDA device" in finding.text
    assert "nvcc:" in finding.advice and "Install a CUDA toolkit" in finding.advice


def test_gsplat_that_is_built(pretended_cuda, monkeypatch):
    extension = pretended_cuda / "gsplat_cuda" / "gsplat_cuda.so"
    extension.parent.mkdir()
    extension.touch()
    monkeypatch.setattr(
        known_splat, "deviation", lambda engine, device: known_splat.Deviation(0, 1e-6)
    )
    found = list(rasterizers.gsplat(build=False))
    assert find(found, "engine gsplat").verdict == "ok"
    assert find(found, "gsplat's extension").text == str(extension)


def test_lpips_weights_that_are_not_here(hub):
    for finding in weights.lpips():
        assert finding.verdict == "note" and str(hub) in finding.text
        assert "place the file there" in finding.advice


def test_lpips_weights_good_and_bad(hub):
    features = PerceptualDistance("alex").features.state_dict()
    good = {f"features.{name}": value for name, value in features.items()}
    torch.save(good, hub / "alexnet-owt-7be5be79.pth")
    (hub / "vgg16-397923af.pth").write_bytes(b"half a download")
    found = list(weights.lpips())
    assert find(found, "LPIPS alex").verdict == "ok"
    bad = find(found, "LPIPS vgg")
    assert bad.verdict == "problem" and "is no file of PyTorch weights" in bad.text
    assert "delete" in bad.advice


def test_nothing_follows_a_broken_torch(monkeypatch):
    requirements(monkeypatch, "torch>=99", "numba")
    assert [finding.subject for _, finding in diagnose(False)][-1] == "torch"


def test_the_packaged_weights(monkeypatch, tmp_path):
    """Those of a run stand in for them: missing, whole, and cut short."""
    monkeypatch.setattr(known, "SMALL_FILE", tmp_path / "small.ckpt")
    (missing,) = weights.small()
    assert missing.verdict == "note" and "mvsplat weights" in missing.advice
    run = Path(__file__).parents[2] / "kept_run"
    push(str(run), str(known.SMALL_FILE), good_for="walls of noise")
    (found,) = weights.small()
    assert found.verdict == "ok" and found.text.endswith(" parameters; walls of noise")
    known.SMALL_FILE.write_bytes(known.SMALL_FILE.read_bytes()[:5000])
    (bad,) = weights.small()
    assert bad.verdict == "problem" and "cut short, after 5,000 bytes" in bad.text
