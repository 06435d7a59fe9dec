"""The picture maker: a child process around DiffSynth's Qwen-Image pipeline."""
