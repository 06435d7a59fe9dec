"""The parent's side: one supervised child process for each engine."""
