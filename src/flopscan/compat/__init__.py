"""Drop-in replacements for the counting code that models bring along, and handles for other counters."""
