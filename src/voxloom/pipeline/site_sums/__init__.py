"""Sites that share sums in place of maps."""
