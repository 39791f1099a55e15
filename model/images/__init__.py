"""Files of images: to pixels, masks and probability maps (`pixels`, `masks`, `maps`; the only reader of each), and
which there are (`folders`, `lists`, `pairing`)."""
