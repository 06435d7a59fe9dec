"""The optional image check: a small model on the CPU, in a process of its own."""
