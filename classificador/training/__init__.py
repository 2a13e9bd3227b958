"""A training: the loop, what it is made of, and the folder it leaves."""
