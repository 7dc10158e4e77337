"""The second stage: proposals of a trained run judged as a whole, learnt from the run itself."""
