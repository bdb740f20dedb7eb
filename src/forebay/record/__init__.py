"""Recording: production traffic becomes a trace without a word of it, and a trace a workload."""
