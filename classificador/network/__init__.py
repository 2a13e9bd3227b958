"""The network, its starting weights and its optimizer; and the deeper one that teaches it."""
