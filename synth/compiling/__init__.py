"""What compiled networks consist of: backends, parity, batch buckets, packages on the disk, ONNX."""
