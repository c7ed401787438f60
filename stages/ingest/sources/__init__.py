"""One file a source of images. Never imports another source; what they share lies beside this folder."""
