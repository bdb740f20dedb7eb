"""`make demo`: the platform brought up, measured, overloaded and watched recovering."""

from forebay.demo.launch_run import run_launch
from forebay.demo.run import FACTORS, STAGE_S, run_demo

__all__ = ["FACTORS", "STAGE_S", "run_demo", "run_launch"]
