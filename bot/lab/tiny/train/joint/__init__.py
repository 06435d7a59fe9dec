"""Joint training of drawing, editing, seeing and writing: `python -m bot.lab.tiny.train.joint`."""
