"""The child's side of an engine: the process that draws, where torch is imported."""
