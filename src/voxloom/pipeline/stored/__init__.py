"""What stages leave in the store and beside it."""
