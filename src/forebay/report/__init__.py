"""HTML reports: each one self-contained page."""
