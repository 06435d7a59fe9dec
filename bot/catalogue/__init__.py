"""What there is to choose from: models, LoRAs, styles."""
