"""From videos to the features that the method reads: frames, optical flow, and the I3D network."""
