"""From a trained student to something others use: a folder with a card, one ONNX file, and a reader for it."""
