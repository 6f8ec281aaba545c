"""Looks whether this installation works: each module examines one side of it."""

from mvsplat.doctor.findings import Finding, examine

__all__ = ["Finding", "examine"]
