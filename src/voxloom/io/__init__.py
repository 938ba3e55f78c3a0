"""Files to Datasets and back: NIfTI, the Zarr store, BIDS."""
