"SLICER in the training loop of fastai"
