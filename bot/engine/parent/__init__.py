"""The parent's side of an engine: one supervised child process for each."""
