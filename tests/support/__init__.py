"""What tests on real files need: the files, and folders made of them."""
