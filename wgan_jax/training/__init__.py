"""The update, the compiled program, and the loop around it."""
