"""Cameras of photographs that have none: structure from motion in a process of its own."""
