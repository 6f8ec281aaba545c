"""The subcommands that need no trainer, one module each."""
