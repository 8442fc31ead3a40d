"""The embedded land model: a process-based canopy, soil and snow column under FATES parameter names."""

from fatescal.forward.canopy.model import Canopy

__all__ = ["Canopy"]
