"""From scenes to batches: streams, examples, view samplers, crops and flips, loaders."""
