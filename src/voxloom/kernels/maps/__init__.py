"""What is made of a whole map: neighbours, clusters, TFCE, and corrections for its many voxels."""
