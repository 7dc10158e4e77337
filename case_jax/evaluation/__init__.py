"""How good detections are: mAP by several protocols, recall, and what the errors cost; in numpy alone."""
