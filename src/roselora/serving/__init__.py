"""Edited models and edits in formats that other programs read: LoRA adapter folders and weight patches."""
