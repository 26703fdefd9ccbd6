"Encoders, losses, and the student-teacher model"
