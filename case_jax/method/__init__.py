"""The method in the paper's order: labels, losses, the objective, the network, and scores at test time."""
