"""What happens to a request: validation, limits, the fair queue and the GPU worker."""
