"""Wiring: the command line, the Prefect flow, settings, progress and the summary; no logic."""
