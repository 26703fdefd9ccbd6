"Two views of a clip: mixing, cropping, perturbing"
