"""What a reader of the notebook sees: figures, live curves, the box for own pictures."""
