"""From a feature matrix to a calibrated, evaluated, registered ONNX model."""
