"""The other methods of knowledge editing, and ours beside them: each one file with the same one function."""
