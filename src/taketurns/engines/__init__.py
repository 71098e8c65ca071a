"""What runs the models: the protocol, and the engines that keep it."""
