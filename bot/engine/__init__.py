"""Engines: what draws the pictures, each a child process around DiffSynth's pipelines."""
