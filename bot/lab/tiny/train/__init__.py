"""Training of the tiny model: `python -m bot.lab.tiny.train`, one seed, one or more GPUs."""
