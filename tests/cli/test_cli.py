"""The command line: what overrides what, where things go, and what mistakes say."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from mvsplat.__main__ import main
from mvsplat.cli import config_files, trainer_commands


def printed_config(program, *arguments):
    """The resolved configuration of ``fit``."""
    assert program("fit", *arguments, "--print_config") == 0, program.err
    return yaml.safe_load(program.out)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def arguments_of(config, key):
    return config["model"][key]["init_args"]


# What overrides what


def test_every_shipped_configuration_is_parsed(capsys):
    names = config_files.shipped()
    assert {"re10k", "acid", "dtu", "quickstart"} <= set(names)
    for name in names:
        overlay = "/" in name
        command = "test" if name == "dtu" else "fit"
        base = ["--config", "re10k"] if overlay else []
        with pytest.raises(SystemExit) as exit:
            main([command, *base, "--config", name, "--print_config"])
        out, err = capsys.readouterr()
        assert not exit.value.code, f"{name}: {err}"
        resolved, file = yaml.safe_load(out), yaml.safe_load(config_files.find(name).read_text())
        assert_contains(resolved, file, name)
        assert len(config_files.find(name).read_text().splitlines()) < 50, name


def assert_contains(resolved, given, where):
    """Every value that a file gives is in the resolved configuration."""
    if isinstance(given, dict) and isinstance(resolved, dict):
        for key, value in given.items():
            here = resolved
            if key not in resolved and "init_args" in resolved:
                here = resolved["init_args"]
            if key == "class_path":
                assert resolved[key].rpartition(".")[2] == value.rpartition(".")[2], where
            else:
                assert_contains(here[key], value, f"{where}: {key}")
    elif isinstance(given, list) and isinstance(resolved, list):
        assert len(resolved) == len(given), where
        for number, value in enumerate(given):
            assert_contains(resolved[number], value, f"{where}: {number}")
    elif isinstance(given, str) and isinstance(resolved, dict):
        assert resolved["class_path"].rpartition(".")[2] == given.rpartition(".")[2], where
    else:
        assert resolved == given, where


def test_another_class_gets_its_own_defaults_not_the_arguments_of_the_usual_one(program, tmp_path):
    """Both sources have ``frames``; what was said of the rooms was not said of other scenes."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("data: {source: {init_args: {frames: 9, seed: 5}}}\n")
    second.write_text("data: {source: {class_path: VariedScenes, init_args: {test_scenes: 7}}}\n")
    config = printed_config(program, "--config", str(first), "--config", str(second))
    source = config["data"]["source"]
    assert source["class_path"].endswith("VariedScenes")
    given = {name: source["init_args"][name] for name in ("test_scenes", "frames", "seed")}
    assert given == {"test_scenes": 7, "frames": 5, "seed": 0}
    assert source["init_args"]["field_of_view"] == [30.0, 95.0]


def test_shipped_names_work_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spellings = {config_files.find(n) for n in ("re10k", "re10k.yaml", "configs/re10k.yaml")}
    assert spellings == {config_files.FOLDER / "re10k.yaml"}
    mine = write(tmp_path / "re10k.yaml", "")
    assert config_files.find("re10k.yaml").resolve() == mine, "a file of one's own comes first"


def test_constructor_defaults_are_the_published_recipe(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    encoder = arguments_of(config, "encoder")
    assert encoder["d_feature"] == encoder["depth_candidates"] == 128
    assert arguments_of(config, "optimizer")["lr"] == 2e-4
    assert config["model"]["schedule"]["class_path"].endswith("OneCycle")
    weights = {n: loss["init_args"]["weight"] for n, loss in config["model"]["losses"].items()}
    assert weights == {"mse": 1.0, "lpips": 0.05}
    assert config["trainer"]["max_steps"] == 300_001
    assert config["trainer"]["gradient_clip_val"] == 0.5
    assert config["data"]["train_loader"]["batch_size"] == 14
    assert config["data"]["image_shape"] == [256, 256]
    # auto_configure_optimizers would show a second, unused optimizer.
    assert "optimizer" not in config and "lr_scheduler" not in config


def test_the_command_line_overrides_any_value(program):
    config = printed_config(
        program,
        "--model.encoder.d_feature=24",
        "--model.optimizer.lr=0.1",
        "--model.losses.mse.weight=3",
        "--data.source.train_scenes=5",
        "--trainer.max_steps=9",
    )
    assert arguments_of(config, "encoder")["d_feature"] == 24
    assert arguments_of(config, "encoder")["depth_candidates"] == 8, "the file's"
    assert arguments_of(config, "optimizer")["lr"] == 0.1
    assert config["model"]["losses"]["mse"]["init_args"]["weight"] == 3
    assert config["data"]["source"]["init_args"]["train_scenes"] == 5
    assert config["trainer"]["max_steps"] == 9


def test_a_second_config_overlays_losses_one_at_a_time(program, tmp_path):
    first = write(
        tmp_path / "first.yaml",
        "model: {losses: {mse: {class_path: MSE, init_args: {weight: 2}},"
        " depth: {class_path: CoarseDepth, init_args: {weight: 0.5}}}}",
    )
    second = write(
        tmp_path / "second.yaml",
        "model: {losses: {depth: {init_args: {weight: 0.7}}, extra: MSE,"
        " lpips: {class_path: LPIPS, init_args: {net: alex}}}}",
    )
    losses = printed_config(program, "--config", first, "--config", second)["model"]["losses"]
    assert losses["mse"]["init_args"]["weight"] == 2, "kept from the first file"
    assert losses["depth"]["init_args"]["weight"] == 0.7, "changed by the second"
    assert losses["depth"]["class_path"].endswith("CoarseDepth")
    assert losses["extra"]["class_path"].endswith("MSE"), "added by the second"
    assert losses["lpips"]["init_args"]["net"] == "alex", "brought back after a null"
    third = write(tmp_path / "third.yaml", "model: {losses: {mse: null}}")
    losses = printed_config(program, "--config", first, "--config", third)["model"]["losses"]
    assert losses["mse"] is None and losses["depth"]["init_args"]["weight"] == 0.5


def test_a_part_is_swapped_by_a_file(program, tmp_path):
    file = write(
        tmp_path / "encoder.yaml", "class_path: CostVolumeEncoder\ninit_args: {d_feature: 48}"
    )
    config = printed_config(program, "--model.encoder", file)
    assert arguments_of(config, "encoder")["d_feature"] == 48


def test_callbacks_in_a_later_config_leave_the_checkpoints(program, tmp_path):
    later = write(
        tmp_path / "later.yaml",
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/psnr}}]}",
    )
    assert program("fit", "--config", later) == 0, program.err
    assert program.checkpoint().is_file()


# Where things go


def test_stages_and_resuming_share_one_folder(program):
    assert program("fit") == 0, program.err
    run = program.run_dir
    assert (run / "config.yaml").is_file()
    assert program.checkpoint("step-0000001").is_file()
    assert program.checkpoint("step-0000002").is_file()
    assert list((run / "checkpoints").glob("best-*-step-0000002.ckpt"))
    assert list((run / "logs").glob("events.out.tfevents.*"))

    saved = ["--config", str(run / "config.yaml")]
    for command in ("validate", "test", "predict"):
        assert program(command, *saved, "--ckpt_path", "last", config=False) == 0, program.err
    scores = json.loads((run / "test" / "scores.json").read_text())
    assert len(scores["scenes"]) == 3
    assert len(list((run / "predictions").glob("*.ply"))) == 3

    resumed = [*saved, "--ckpt_path", "last", "--trainer.max_steps", "3"]
    assert program("fit", *resumed, config=False) == 0, program.err
    assert torch.load(program.checkpoint(), weights_only=True)["global_step"] == 3
    assert not (run / "earlier-1").exists()


def test_predict_alone_chooses_its_precision_and_only_where_none_was_given(
    program, monkeypatch, caplog
):
    monkeypatch.setattr(trainer_commands, "bf16_is_faster", lambda: True)
    chosen = []
    monkeypatch.setattr(Trainer, "predict", lambda self, *_, **__: chosen.append(self.precision))
    monkeypatch.setattr(Trainer, "test", lambda self, *_, **__: chosen.append(self.precision))
    given = ["--model.weights=small", f"--run_dir={program.run_dir}", "--trainer.accelerator=cpu"]
    exact = "--trainer.precision=32-true"
    assert program("predict", *given, config=False) == 0, program.err
    assert "for float32: --trainer.precision 32-true" in caplog.text
    assert program("predict", *given, exact, config=False) == 0, program.err
    assert program("test", *given, config=False) == 0, program.err
    assert chosen == ["bf16-mixed", "32-true", "32-true"]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_evaluation_makes_the_scenes_it_needs(program, tmp_path, command):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    elsewhere = f"--data.source.root={tmp_path / 'fresh'}"
    assert program(command, "--ckpt_path=last", elsewhere) == 0, program.err
    assert list((tmp_path / "fresh").glob("*/test/index.json"))


def test_a_new_run_in_a_used_folder_loses_nothing(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    before = program.checkpoint().read_bytes()
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    assert (program.run_dir / "earlier-1" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert program.checkpoint().is_file()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("which", ["last", "best", "elsewhere.ckpt"])
def test_a_missing_checkpoint_is_an_error(program, command, which):
    assert program(command, "--ckpt_path", which) == 2
    assert re.search(r"no (checkpoint|best)", program.err)
    assert not program.run_dir.exists()


def test_evaluation_without_weights_is_an_error(program):
    assert program("test") == 2
    assert "--ckpt_path" in program.err


def test_a_checkpoint_overrides_no_setting(program, tmp_path):
    """Lightning merges a checkpoint's hyper_parameters over YAML and flags; ours must not."""
    assert program("fit") == 0, program.err
    content = torch.load(program.checkpoint(), weights_only=True)
    assert "hyper_parameters" not in content
    content["hyper_parameters"] = {"backbone_weights": "no-such-file", "max_steps": 1}
    foreign = tmp_path / "foreign.ckpt"
    torch.save(content, foreign)
    assert program("fit", "--ckpt_path", foreign, "--trainer.max_steps=3") == 0, program.err
    again = torch.load(program.checkpoint(), weights_only=True)
    assert again["global_step"] == 3
    assert (
        yaml.safe_load((program.run_dir / "config.yaml").read_text())["model"]["backbone_weights"]
        is None
    )


# What is told is done, or refused


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trainer.logger.save_dir=mine"], ["mine"]),
        (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=mine"], ["mine"]),
        (["--config", "{class_path: CSVLogger, init_args: {save_dir: mine}}"], ["mine"]),
        (["--config", "{init_args: {save_dir: mine}}"], ["mine"]),
        (["--config", "[{class_path: CSVLogger, init_args: {save_dir: mine}}]"], ["mine"]),
        (
            ["--config", "[TensorBoardLogger, {class_path: CSVLogger, init_args: {save_dir: b}}]"],
            ["run", "b"],
        ),
        (["--trainer.logger=CSVLogger"], ["run"]),
        (["--trainer.logger=[CSVLogger, TensorBoardLogger]"], ["run", "run"]),
        (["--trainer.logger=false"], []),
        (["--trainer.logger=null"], ["run"]),
    ],
    ids=str,
)
def test_loggers_write_where_they_are_told(
    program, tmp_path, monkeypatch, trainers, arguments, expected
):
    if arguments[0] == "--config":
        file = write(tmp_path / "logger.yaml", f"trainer: {{logger: {arguments[1]}}}")
        arguments = ["--config", file]
    monkeypatch.chdir(tmp_path)
    assert program("fit", *arguments, "--run_dir=run") == 0, program.err
    assert [logger.save_dir for logger in trainers[0].loggers] == expected

    # The printed configuration gives the same, and moves with the run folder.
    printed = write(tmp_path / "printed.yaml", yaml.safe_dump(printed_config(program, *arguments)))
    again = ["--config", printed, "--run_dir=other"]
    assert program("fit", *again, config=False) == 0, program.err
    moved = ["other" if name == "run" else name for name in expected]
    assert [logger.save_dir for logger in trainers[1].loggers] == moved


def test_a_saved_configuration_has_the_loggers_folders(program, tmp_path):
    mine = ["--trainer.max_steps=1", f"--trainer.logger.save_dir={tmp_path / 'mine'}"]
    assert program("fit", *mine) == 0, program.err
    assert list((tmp_path / "mine" / "logs").glob("events.out.tfevents.*"))
    saved = yaml.safe_load((program.run_dir / "config.yaml").read_text())
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == str(tmp_path / "mine")
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    saved = yaml.safe_load((program.run_dir / "config.yaml").read_text())
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == "", "the run folder, any"


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that the program made; they do not run."""
    from mvsplat.cli.trainer_commands import TrainerCLI

    made = []
    monkeypatch.setattr(TrainerCLI, "fit", lambda self, *_, **__: made.append(self.trainer))
    return made


@pytest.mark.parametrize(
    ("option", "value", "source"),
    [
        ("model.max_steps", "7", "trainer.max_steps"),
        ("data.seed", "7", "seed_everything"),
        ("trainer.default_root_dir", "here", "run_dir"),
    ],
)
def test_options_that_follow_others_are_refused(program, tmp_path, option, value, source):
    group, name = option.split(".")
    file = write(tmp_path / "linked.yaml", f"{group}: {{{name}: {value}}}")
    for arguments in ([f"--{option}={value}"], [f"--{option}", value], ["--config", file]):
        assert program("fit", *arguments) == 2
        assert_short(program.err)
        assert f'"{option}"' in program.err and f'"{source}"' in program.err, program.err
    assert not program.run_dir.exists()


def test_none_is_null_as_help_texts_have_it(program, tmp_path):
    for arguments in (
        ["--trainer.gradient_clip_val", "None", "--model.losses.mse", "None"],
        ["--trainer.gradient_clip_val=None", "--model.losses.mse=None"],
    ):
        config = printed_config(program, *arguments)
        assert config["trainer"]["gradient_clip_val"] is None
        assert config["model"]["losses"]["mse"] is None
    file = write(tmp_path / "mine.yaml", "trainer: {gradient_clip_val: None}")
    assert program("fit", "--config", file) == 2
    assert_short(program.err)
    assert "trainer.gradient_clip_val" in program.err and "null" in program.err


def test_lightnings_switches_of_callbacks_are_followed(program, tmp_path, trainers):
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar, TQDMProgressBar

    assert program("fit", "--trainer.enable_checkpointing=false") == 0, program.err
    assert not [c for c in trainers[0].callbacks if isinstance(c, Checkpoint)]
    one = write(tmp_path / "bar.yaml", "trainer: {callbacks: {class_path: TQDMProgressBar}}")
    shown = ["--trainer.enable_progress_bar=true"]
    assert program("fit", "--config", one, *shown) == 0, program.err
    assert [type(c) for c in trainers[1].callbacks if isinstance(c, ProgressBar)] == [
        TQDMProgressBar
    ]
    assert program("fit") == 0, program.err
    assert not [c for c in trainers[2].callbacks if isinstance(c, ProgressBar)], "tiny.yaml's"


# Lightning's own switches


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.fast_dev_run=true"],
        ["--trainer.limit_train_batches=1", "--trainer.max_steps=2"],
        ["--trainer.limit_val_batches=1"],
        ["--trainer.logger=false"],
        ["--trainer.logger=CSVLogger"],
        ["--trainer.num_sanity_val_steps=1"],
        ["--model.schedule=LinearWarmup"],
        ["--model.schedule=null"],
    ],
    ids=lambda arguments: arguments[0].removeprefix("--"),
)
def test_switches_of_lightning_work(program, arguments):
    assert program("fit", *arguments) == 0, program.err
    if "CSVLogger" in arguments[0]:
        table = next(program.run_dir.rglob("metrics.csv")).read_text()
        assert {"train/psnr", "val/psnr", "train/mse"} <= set(table.splitlines()[0].split(","))


def test_steps_are_optimizer_steps_under_accumulation(program):
    """Lightning's val_check_interval counts batches: with accumulation it would come too often."""
    from mvsplat.cli.trainer_commands import TrainerCLI

    validations = []
    arguments = ["--trainer.accumulate_grad_batches=2", "--trainer.logger=CSVLogger"]
    original = TrainerCLI.instantiate_trainer

    def spy(self, **kwargs):
        trainer = original(self, **kwargs)
        validations.append(trainer)
        return trainer

    TrainerCLI.instantiate_trainer = spy
    try:
        assert program("fit", *arguments, "--trainer.max_steps=4") == 0, program.err
    finally:
        TrainerCLI.instantiate_trainer = original
    trainer = validations[0]
    assert trainer.global_step == 4
    table = next(program.run_dir.rglob("metrics.csv")).read_text().splitlines()
    column = table[0].split(",").index("val/psnr")
    assert sum(bool(row.split(",")[column]) for row in table[1:]) == 2, "after steps 2 and 4"


# Mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model: {encoder: {init_args: {d_featur: 3}}}",
            ["model.encoder", "d_featur", "d_feature"],
        ),
        (
            "model: {encoder: {class_path: CostVolumEncoder}}",
            ["model.encoder", "CostVolumeEncoder"],
        ),
        ("model: {encoder: {init_args: {d_feature: many}}}", ["d_feature", "int", "many"]),
        ("modle: {max_steps: 3}", ["modle", "model"]),
        ("data: {valscenes: 3}", ["data.valscenes", "val_scenes"]),
        ("trainer: {max_step: 3}", ["trainer.max_step", "max_steps"]),
        ("model: {losses: {mse: MSF}}", ["model.losses", "MSF", "MSE"]),
        (
            "model: {losses: {mse: {class_path: MSE, init_args: {weigth: 2}}}}",
            ["model.losses", "weigth", "weight"],
        ),
        ("model: [", ["mistake.yaml"]),
        ("- a\n- b", ["mistake.yaml"]),
    ],
)
def test_mistakes_in_a_file(program, tmp_path, text, expected):
    file = write(tmp_path / "mistake.yaml", text)
    assert program("fit", "--config", file) == 2
    assert_short(program.err)
    for word in [*expected, "mistake.yaml"]:
        assert word in program.err, program.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data.valscenes=3"], ["data.valscenes", "val_scenes"]),
        (["--model.encoder.d_featur=3"], ["model.encoder", "d_feature"]),
        (["--trainer.max_step=3"], ["trainer.max_step", "max_steps"]),
        (["--trainer.max_steps=soon"], ["trainer.max_steps", "soon"]),
        (["--config=re1k"], ["re1k", "re10k"]),
        (["--config=nowhere/else.yaml"], ["nowhere/else.yaml"]),
        (["--model.encoder=nowhere.yaml"], ["model.encoder", "nowhere.yaml"]),
        (["--data.source=ChunkScenes", "--data.source.roots=nowhere"], ["nowhere"]),
        (["--model.weights=nowhere.ckpt"], ["nowhere.ckpt"]),
    ],
)
def test_mistakes_on_the_command_line(program, arguments, expected):
    assert program("fit", *arguments) == 2
    assert_short(program.err)
    for word in expected:
        assert word in program.err, program.err


def assert_short(text):
    assert text.startswith("error: "), text
    assert len(text.strip().splitlines()) <= 5, text
    assert "Traceback" not in text and "usage:" not in text


def test_commands(program):
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    from mvsplat import __version__

    out = program.capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "scenes"):
        assert f"  {command} " in out
    assert out.strip().endswith(f"mvsplat {__version__}")
    assert main(["fitt"]) == 2
    assert "did you mean 'fit'" in program.capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"foreign", {"state_dict": {}}])
def test_damaged_and_foreign_checkpoints_are_named(program, tmp_path, content):
    file = tmp_path / "odd.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    for command in ("fit", "test"):
        assert program(command, "--ckpt_path", file) == 2
        assert_short(program.err)
        assert "odd.ckpt" in program.err


def test_a_run_that_fails_to_start_leaves_the_earlier_one(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    before = program.checkpoint().read_bytes()
    assert program("fit", "--data.min_baseline=1e6") == 2, "which shows when scenes are loaded"
    assert program.checkpoint().read_bytes() == before
    assert not list(program.run_dir.glob("earlier-*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trainer.devices=two"], "trainer"),
        (["--trainer.precision=17"], "precision"),
        (["--data.min_baseline=1e6", "--data.train_loader.num_workers=0"], "baseline"),
        (["--data.min_baseline=1e6", "--data.train_loader.num_workers=1"], "baseline"),
    ],
)
def test_mistakes_that_show_late_are_short_too(program, arguments, expected):
    assert program("fit", *arguments) == 2
    assert_short(program.err[program.err.index("error: ") :])
    assert expected in program.err


def test_a_class_of_the_same_name_is_another_class(program, tmp_path, monkeypatch):
    source = "import mvsplat.losses\nclass MSE(mvsplat.losses.MSE):\n    pass\n"
    write(tmp_path / "others.py", source)
    monkeypatch.syspath_prepend(tmp_path)
    file = write(tmp_path / "o.yaml", "model: {losses: {mse: {class_path: others.MSE}}}")
    losses = printed_config(program, "--config", file)["model"]["losses"]
    assert losses["mse"]["class_path"] == "others.MSE"


# Values that reach the run


def csv_rows(program):
    """The rows of the run's newest CSV log, as dicts of what they hold."""
    import csv

    path = max(program.run_dir.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    with path.open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_the_schedule_has_the_trainers_length(program):
    """trainer.max_steps reaches the schedule; the learning rate of every step is logged."""
    arguments = ["--trainer.max_steps=6", "--trainer.logger=CSVLogger", "--model.optimizer.lr=0.01"]
    assert program("fit", *arguments, "--model.schedule.warmup_fraction=0.25") == 0, program.err
    rates = [float(row["lr-Adam"]) for row in csv_rows(program) if "lr-Adam" in row]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=0.01)
    expected = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, 16, pct_start=0.25, cycle_momentum=False
    )
    for rate in rates:
        assert rate == pytest.approx(expected.get_last_lr()[0], rel=1e-5)
        optimizer.step()
        expected.step()
    assert len(rates) == 6


def test_validation_means_count_scenes_not_batches(program):
    """Three scenes in batches of two: without the batch size the last would count double."""
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    values = []
    for size in (1, 2):
        arguments = ["--data.val_scenes=3", f"--data.val_loader.batch_size={size}"]
        arguments += ["--ckpt_path=last", "--trainer.logger=CSVLogger"]
        assert program("validate", *arguments) == 0, program.err
        values.append(float(csv_rows(program)[-1]["val/psnr"]))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_a_published_checkpoint_serves_every_command(program, tmp_path):
    from golden.cases import published_state

    state = {f"encoder.{name}": value for name, value in published_state("tiny_2views").items()}
    file = tmp_path / "released.ckpt"
    torch.save({"state_dict": state, "global_step": 300_000}, file)
    given = ["--model.encoder=null", "--model.weights", file, "--data.image_shape=[64, 64]"]
    for command in ("validate", "test", "predict"):
        assert program(command, *given) == 0, program.err
    assert program("fit", *given, "--trainer.max_steps=1") == 0, program.err
    # The encoder follows it, and the result stands on its own.
    import mvsplat

    encoder = mvsplat.load_model(program.checkpoint()).encoder
    assert encoder.config["init_args"]["published_harmonics_rotation"] is True
    assert program("fit", "--ckpt_path", file) == 2
    assert "--model.weights" in program.err
