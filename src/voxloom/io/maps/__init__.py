"""What comes with maps that are given: the files, people, rearrangements, sums."""
