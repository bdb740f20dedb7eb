"""`make demo`: the platform brought up, measured, overloaded and watched recovering."""
