"""Edited models and edits in the formats that other programs read: LoRA folders and weight patches."""
