"""Models over maps of many people."""
