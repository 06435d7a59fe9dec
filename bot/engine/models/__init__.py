"""The models: a family each, built of DiffSynth's networks."""
