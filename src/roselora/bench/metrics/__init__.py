"""What is measured, and how values are averaged and compared."""
