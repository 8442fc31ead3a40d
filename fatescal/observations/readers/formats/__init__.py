"""The formats of text tables, a class each."""
