"""A run as files that other programs run: ONNX graphs or torch programs, and a JSON file that describes them."""
