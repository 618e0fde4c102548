"""An explorer of a count in the terminal; the application itself needs textual."""
