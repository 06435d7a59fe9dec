"""The rules: what people may ask for, and how much."""
