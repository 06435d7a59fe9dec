"""Models: the modules that load each family, and the backends that draw with them."""
