"""Exports of capture apps and published captures, each a reader of its own."""
