"""The clients: what people call, what is asked and when it is asked again, and how it gets there."""
