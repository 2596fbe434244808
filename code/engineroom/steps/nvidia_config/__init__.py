"""Imports the configuration files of NVIDIA's closed division, rounds v2.0 to v6.0: parsed, never run.

source.py reads Python without running it, settings.py knows NVIDIA's forms, carry.py turns them into ours.
"""
