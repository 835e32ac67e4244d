"""Edits by gated neurons of an MLP (``--method gate``, the default)."""
