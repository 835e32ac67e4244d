"""Tables, plots and model cards of finished runs."""
