"""Files to arrays: the only reader of pictures (`pixels`), masks (`masks`) and probability maps (`maps`)."""
