"""How the tiny model was trained: `python -m bot.engine.tiny.train`, one seed, one or more GPUs."""
