"""The two methods that train an edit, and the engine that they share."""
