"From a file to a log-mel spectrogram"
