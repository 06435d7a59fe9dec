"""The toy model: Qwen-Image's own pipeline and network code at a width that a CPU can run."""
