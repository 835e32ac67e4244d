"""Facts in, sparse updates out."""
