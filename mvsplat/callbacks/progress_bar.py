"""The progress bar of runs that count steps."""

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, without the number of an epoch that never ends."""

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_epochs == -1:
            return "Training"
        return super()._get_train_description(current_epoch)
