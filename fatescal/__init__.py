"""fatescal: calibrate an expensive land model on a cluster."""

__version__ = "0.1.0"
