"""The optional image check: a small model on the CPU, in its own process."""
