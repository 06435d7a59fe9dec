"""The trial of a card, `python -m bot doctor --trial`: what the engine will do on it."""
