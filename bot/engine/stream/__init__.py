"""The fast path of the transformer: FP8 weights, streamed through the GPU within a byte budget."""
