"Long recordings: annotations, events, detection"
