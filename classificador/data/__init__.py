"""What the network learns from: CIFAR-10 however it arrives, and folders of one's own pictures."""
