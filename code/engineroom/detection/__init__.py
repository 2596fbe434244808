"""Detects the machine, without privileges. `machine` says what is found, the other files how."""

from engineroom.detection.host import detect
from engineroom.detection.machine import Cpu, Gpu, Machine

__all__ = ["Cpu", "Gpu", "Machine", "detect"]
