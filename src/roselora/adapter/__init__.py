"""RoseLoRA as a PEFT method: a config, what happens around each optimizer step, and a check of the result."""
