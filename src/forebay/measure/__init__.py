"""The one definition of TTFT, TPOT, goodput and percentiles, used by load and simulate alike."""
