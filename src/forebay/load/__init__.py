"""Load generation: a cheap HTTP client on an absolute schedule, suspicious of itself."""
