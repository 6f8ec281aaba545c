"""The program: Lightning's four commands, and ours, which need no trainer."""
