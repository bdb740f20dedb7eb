"""Who asks what, when: seeded and pure, the same object for the load test and the simulator."""
