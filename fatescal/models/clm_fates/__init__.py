"""CLM-FATES as a forward model: one executable, a template run directory, a process and folder per member."""

from fatescal.models.clm_fates.clm_model import ClmFates

__all__ = ["ClmFates"]
