"""The model files: found, downloaded, and prepared by one engine at a time."""
