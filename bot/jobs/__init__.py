"""Jobs, from a request to its end: admission, the fair queue, outcomes."""
