"""Edits by RoseLoRA's sparse factors (``--method rose``)."""
