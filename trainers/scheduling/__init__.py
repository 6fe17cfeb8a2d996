"""Studies on their way: what is to be run, what has been, and what runs it."""
