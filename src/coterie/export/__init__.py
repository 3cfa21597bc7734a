"""A run as files that other programs run, described by a JSON file: ONNX graphs, torch programs, or a folder of
transformers.
"""
