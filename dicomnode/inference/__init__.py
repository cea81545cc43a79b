"""Room inference: model packages, engines, tiles, and the way from a volume to its label map.

The only room that imports onnxruntime (and tensorrt and its kin, where they will be).
"""
