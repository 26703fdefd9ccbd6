"From files to batches"
