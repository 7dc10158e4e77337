"""The method in the order of the paper: labels, losses, objective, network, and scores at test time."""
