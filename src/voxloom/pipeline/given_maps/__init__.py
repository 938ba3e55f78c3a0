"""The line for people who come with maps only."""
