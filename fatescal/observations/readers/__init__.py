"""Measurements as flux people have them: the format detected, columns as numbers, times in UTC.

`read` is the way in. docs/formats.md says what is read, guessed, stated and refused.
"""

from fatescal.observations.readers.base import Layout
from fatescal.observations.readers.reading import detect, read

__all__ = ["Layout", "detect", "read"]
