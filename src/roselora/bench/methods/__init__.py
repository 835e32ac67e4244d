"""The editing methods that are compared, one file each with the same function."""
