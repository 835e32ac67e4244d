"""The two methods that train an edit, and what they share."""
