"""Detects the machine, without privileges. `machine` says what is found, `whole` puts it together."""

from engineroom.detection.machine import Cpu, Gpu, Machine
from engineroom.detection.whole import detect

__all__ = ["Cpu", "Gpu", "Machine", "detect"]
