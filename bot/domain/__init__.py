"""A request, a job and their states; nothing here does I/O."""
