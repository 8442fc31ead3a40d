"""The embedded land model: a process-based canopy, soil and snow column under FATES parameter names."""

from fatescal.models.canopy.canopy_model import Canopy

__all__ = ["Canopy"]
