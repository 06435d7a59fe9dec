"""How the tiny model was trained: `python -m bot.lab.tiny.train`, one seed, one or more GPUs."""
