"""A trainer for small runs."""

import pytest
from lightning.pytorch import Trainer


@pytest.fixture
def make_trainer(tmp_path):
    """Builds a quiet trainer whose run folder is ``tmp_path``."""

    def make(*callbacks, **settings) -> Trainer:
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
        }
        return Trainer(default_root_dir=tmp_path, callbacks=list(callbacks), **(quiet | settings))

    return make
