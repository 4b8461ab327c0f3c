"""Launchers: flags in, library calls, exit code out."""
