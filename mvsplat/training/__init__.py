"""What happens around the training loop: callbacks, checkpoints, resuming, the run folder."""
