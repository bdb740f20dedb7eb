"""Waking at the intended time, and knowing how late that was."""

from forebay.load.timing.alarm import Alarm
from forebay.load.timing.pacer import Pacer
from forebay.load.timing.process import raise_file_limit, set_within
from forebay.load.timing.realtime import Grant, realtime_scheduling

__all__ = ["Alarm", "Grant", "Pacer", "raise_file_limit", "realtime_scheduling", "set_within"]
