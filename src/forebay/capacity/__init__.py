"""Finding out what a service sustains."""
