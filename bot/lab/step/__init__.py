"""The benchmark of a denoising step, `python -m bot bench engine`."""
