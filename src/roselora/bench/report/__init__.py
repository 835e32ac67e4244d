"""Reports of finished runs: Markdown, JSON and plots."""
