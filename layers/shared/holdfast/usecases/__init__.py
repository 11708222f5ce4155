"""One module for each thing a function does; the functions only translate events into calls of these."""
