"""The catalogue of what there is to choose from: models, LoRAs, styles."""
