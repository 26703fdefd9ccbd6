"Pictures, sounds and reports"
