"""The laboratory: measuring and training; nothing of the product imports it."""
