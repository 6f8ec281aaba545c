"""The progress bar, seen where it ends."""

from lightning.pytorch.callbacks import Callback
from toy_model import ToyModel, make_batch

from mvsplat.training.progress_bar import ProgressBar


class WithoutOne:
    """Three batches, of which the last one cannot be used, as BatchLoader gives them."""

    def __len__(self):
        return 3

    def __iter__(self):
        return iter([make_batch(0), make_batch(1)])


class Look(Callback):
    def on_test_end(self, trainer, pl_module):
        self.tasks = [(t.completed, t.total) for t in trainer.progress_bar_callback.progress.tasks]

    on_predict_end = on_test_end


def test_the_bar_ends_at_its_total_where_scenes_are_left_out(make_trainer):
    for command in ("test", "predict"):
        look = Look()
        trainer = make_trainer(ProgressBar(), look, enable_progress_bar=True)
        getattr(trainer, command)(ToyModel(), WithoutOne())
        assert look.tasks == [(3, 3)]
