"""Files of images and masks: finding, pairing and listing them."""
