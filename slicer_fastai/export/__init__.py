"An encoder in other tools: the hub, ONNX, scikit-learn, HEAR"
