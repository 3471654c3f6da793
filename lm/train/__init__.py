"""Training of the language side's networks."""
