"""Designs of the first ensemble, a file for each kind."""
