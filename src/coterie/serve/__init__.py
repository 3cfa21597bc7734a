"""A run behind HTTP: what a request holds, batches over several requests, and the application."""
