"""What a trained network answers, and how good, how sure and how robust its answers are."""
