"""The store as keys and bytes, and as arrays."""
