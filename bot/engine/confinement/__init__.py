"""The confinement of a child process: what it may still read, write and reach, by the kernel."""
