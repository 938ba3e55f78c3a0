"""What the stages of inference share: which nulls there are, where they lie, and what is made of them."""
