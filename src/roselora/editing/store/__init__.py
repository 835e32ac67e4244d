"""The edit store: history in SQLite, one file per delta."""
